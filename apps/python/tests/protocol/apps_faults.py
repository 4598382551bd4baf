"""Applications that misbehave: they stop their loop, ask for the end of the process, or read in other threads."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from apps_asgi import Receive, Scope, Send, respond
from apps_wsgi import TEXT, Environ, StartResponse
from probe import Probe, until

DEPTH = 3000
"""A limit for recursions that needs more stack than a thread of Rust has."""


async def exits(status: int) -> None:
    """Asks for the end of the process in a task that is no request."""
    sys.exit(status)


async def tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """`/stops` stops the loop. `/breaks` lets its next turn fail. `/closes` closes it when it does not run. `/exits` starts tasks that exit. `/late` does it when the test opens a gate."""
    if scope["type"] != "http":
        raise RuntimeError("no such protocol")
    loop = asyncio.get_running_loop()
    if scope["path"] == "/stops":
        loop.stop()
        await asyncio.sleep(0.01)
    if scope["path"] == "/breaks":
        # A turn of asyncio takes as many callbacks as were ready at its start.
        loop.call_soon(loop._ready.clear)  # type: ignore[attr-defined]
        loop.call_soon(loop.time)
    if scope["path"] == "/closes":
        threading.Thread(target=close, args=(loop, Probe.of(scope["query_string"]))).start()
    if scope["path"] in ("/exits", "/late"):
        probe = Probe.of(scope["query_string"])
        probe.record("begun")
        if scope["path"] == "/late":
            await probe.pass_gate_async("exit")
        for status in (7, 8):
            await asyncio.wait([loop.create_task(exits(status))])
        await probe.pass_gate_async("respond")
    await respond(send, b"ok")


def close(loop: asyncio.AbstractEventLoop, probe: Probe) -> None:
    """Closes a loop when it does not run."""
    until(lambda: not loop.is_running(), "the loop does not run")
    loop.close()
    probe.record("closed")


async def sockets(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts WebSockets. Starts after the first one wait for the test."""
    if scope["type"] == "lifespan":
        probe = Probe(os.environ["PROBE"])
        await receive()
        is_first = not probe.events("start")
        probe.record("start")
        if not is_first:
            await probe.pass_gate_async("start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})


class Closed:
    """A response whose `close()` exits."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a", b"b"])

    def close(self) -> None:
        sys.exit(7)


def generated() -> Iterator[bytes]:
    """A response that exits."""
    yield b"a"
    sys.exit(7)


def recursive(items: Any = None) -> Any:
    """Calls itself through C."""
    return sorted([1], key=recursive)


def wsgi(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The path names the fault."""
    path, body = environ["PATH_INFO"], b"ok"
    if path == "/reads":
        results: list[object] = []
        reader = threading.Thread(target=read, args=(environ["wsgi.input"], results))
        reader.start()
        reader.join()
        body = repr(results[0]).encode()
    elif path == "/leaves_reader":
        threading.Thread(target=read, args=(environ["wsgi.input"], [])).start()
    elif path == "/recursive":
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(DEPTH)
        try:
            recursive()
        except RecursionError:
            body = b"RecursionError"
        finally:
            sys.setrecursionlimit(before)
    start_response("200 OK", TEXT)
    return {"/generated": generated, "/closed": Closed}.get(path, lambda: [body])()


def read(stream: Any, results: list[object]) -> None:
    """Reads a body."""
    try:
        results.append(len(stream.read()))
    except Exception as error:
        results.append(type(error).__name__)
