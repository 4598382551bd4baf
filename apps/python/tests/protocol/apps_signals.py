"""Applications that handle signals themselves, or that hang.

They record what happens at the path of the variable PROBE. The variable HANDLER is where and how the handlers are set, and SIGNAL is the name of their signal. The variable HANG is
where the application hangs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from typing import Any

from apps_asgi import Receive, Scope, Send, respond
from apps_wsgi import TEXT, Environ, StartResponse
from probe import DEADLINE, Probe

probe = Probe(os.environ["PROBE"])
HANDLER = os.environ.get("HANDLER", "")
HANG = os.environ.get("HANG", "")
NUMBER = getattr(signal, os.environ.get("SIGNAL", "SIGTERM"))

HOUR = 3600


def handle(*_: Any) -> None:
    """A handler that returns."""
    probe.record("handled")


def exits(*_: Any) -> None:
    """A handler that ends the process."""
    probe.record("handled")
    sys.exit(5)


def raises(*_: Any) -> None:
    """A handler that fails."""
    probe.record("handled")
    raise ValueError("the handler fails")


def calls_previous() -> Callable[..., None]:
    """A handler that calls the one before it."""
    previous = signal.getsignal(NUMBER)

    def call(number: int, frame: Any) -> None:
        probe.record("handled")
        previous(number, frame)

    return call


def set_handler() -> None:
    """Sets the handler of the variable HANDLER."""
    kind = HANDLER.partition(" ")[2]
    if kind == "loop":
        asyncio.get_running_loop().add_signal_handler(NUMBER, handle)
    elif kind == "loop exits":
        asyncio.get_running_loop().add_signal_handler(NUMBER, exits)
    elif kind == "ignores":
        signal.signal(NUMBER, signal.SIG_IGN)
    elif kind == "restores":
        previous = signal.signal(NUMBER, handle)
        signal.signal(NUMBER, previous)
    elif kind == "calls previous":
        signal.signal(NUMBER, calls_previous())
    else:
        signal.signal(NUMBER, {"": handle, "exits": exits, "raises": raises}[kind])


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """`/wait` responds when the test has opened the gate `respond`. `/sets` sets the handler."""
    if scope["type"] == "lifespan":
        await receive()
        if HANDLER.startswith("lifespan"):
            set_handler()
        if HANG == "lifespan":
            probe.record("hangs")
            await asyncio.Event().wait()
        if HANG == "lifespan blocks":
            probe.record("hangs")
            time.sleep(HOUR)
        if HANG == "lifespan holds on":
            probe.record("hangs")
            while True:
                try:
                    await asyncio.sleep(HOUR)
                except (asyncio.CancelledError, KeyboardInterrupt):
                    continue
        await send({"type": "lifespan.startup.complete"})
        await receive()
        probe.record("stopped")
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/sets":
        set_handler()
        handler = signal.getsignal(NUMBER)
        # The server looks at the handlers every second, and replaces this one.
        while signal.getsignal(NUMBER) is handler:
            await asyncio.sleep(0.01)
    if scope["path"] == "/wait":
        probe.record("waits")
        await probe.pass_gate_async("respond")
    await respond(send, b"ok")


def child() -> None:
    """Waits for a signal."""
    probe.record("child")
    time.sleep(HOUR)


def wsgi(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """`/wait` responds when the test has opened the gate `respond`. `/fork` ends a process that it forks."""
    body = b"ok"
    if environ["PATH_INFO"] == "/wait":
        probe.record("waits")
        probe.pass_gate("respond")
    if environ["PATH_INFO"] == "/fork":
        process = get_context("fork").Process(target=child)
        process.start()
        probe.wait("child")
        process.terminate()
        process.join(DEADLINE)
        body = str(process.exitcode).encode()
        process.kill()
    start_response("200 OK", TEXT)
    return [body]


def hold() -> None:
    """Does not end."""
    time.sleep(HOUR)


if HANDLER.startswith("import"):
    set_handler()
if HANG == "import sleeps":
    probe.record("hangs")
    time.sleep(HOUR)
if HANG == "import waits for a lock":
    probe.record("hangs")
    threading.Event().wait()
if HANG == "import computes":
    probe.record("hangs")
    while True:
        pass
if HANG == "import in a process":
    probe.record("hangs")
    subprocess.run(["sleep", str(HOUR)], check=False)
if HANG == "thread":
    threading.Thread(target=hold, name="holder").start()
