"""Applications whose requests wait for each other's test, to see what the server does with those at hand."""

from __future__ import annotations

import time
from collections.abc import Iterable

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


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no such protocol")
    work(scope["path"], scope["query_string"])
    await respond(send, b"ok")
