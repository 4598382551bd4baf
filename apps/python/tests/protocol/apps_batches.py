"""Applications whose requests wait for each other's test, to see what the server does with those at hand."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from itertools import pairwise

from apps_asgi import Receive, Scope, Send, respond
from apps_wsgi import TEXT, Environ, StartResponse
from probe import Probe


def work(path: str, query: str | bytes) -> None:
    """`/blocks/NAME` records NAME and blocks until the test opens the gate NAME. `/computes` computes until `stop`."""
    _, kind, *name = path.split("/")
    probe = Probe.of(query)
    if kind == "blocks":
        probe.record(name[0])
        probe.pass_gate(name[0])
    elif kind == "computes":
        probe.record("computes")
        while not probe.is_open("stop"):
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                pass
    else:
        probe.record(kind)


def wsgi(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    work(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [*TEXT, ("Content-Length", "2")])
    return [b"ok"]


def wsgi_generator(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    yield from wsgi(environ, start_response)


# The threads of requests of `wsgi_threads`, in order.
threads: list[int] = []


def wsgi_threads(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """As `wsgi`; `/thread` notes its thread, and `/threads` answers with how often it has changed, and forgets all.

    `/keeps` keeps the GIL for a while.
    """
    body = b"ok"
    if environ["PATH_INFO"] == "/thread":
        threads.append(threading.get_ident())
    elif environ["PATH_INFO"] == "/threads":
        body = str(sum(a != b for a, b in pairwise(threads))).encode()
        threads.clear()
    elif environ["PATH_INFO"] == "/keeps":
        Probe.of(environ["QUERY_STRING"]).record("keeps")
        interval = sys.getswitchinterval()
        sys.setswitchinterval(60)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        sys.setswitchinterval(interval)
    else:
        work(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no such protocol")
    work(scope["path"], scope["query_string"])
    await respond(send, b"ok")
