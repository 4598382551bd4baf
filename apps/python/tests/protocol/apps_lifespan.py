"""ASGI applications whose lifespans differ. They record what happens at the path of the variable PROBE."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from apps_asgi import Receive, Scope, Send, respond, respond_json
from probe import Probe

probe = Probe(os.environ["PROBE"])


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    """Records its start and its end. `/wait` responds after the test has opened the gate `respond`."""
    probe.record("request", loop=id(asyncio.get_running_loop()))
    if scope["path"] == "/wait":
        await probe.pass_gate_async("respond")
    if scope["path"] == "/state":
        await respond_json(send, scope.get("state"))
    else:
        await respond(send, b"ok")
    probe.record("responded")


async def complete(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts and stops, and records the types and the order."""
    if scope["type"] != "lifespan":
        return await http(scope, receive, send)
    probe.record("scope", keys=sorted(scope), asgi=sorted(scope["asgi"]), state=scope["state"])
    probe.record((await receive())["type"], loop=id(asyncio.get_running_loop()))
    scope["state"]["made"] = "at the start"
    await asyncio.sleep(0)
    probe.record("started")
    await send({"type": "lifespan.startup.complete"})
    probe.record((await receive())["type"])
    await asyncio.sleep(0)
    probe.record("stopped")
    await send({"type": "lifespan.shutdown.complete"})


async def slow_start(scope: Scope, receive: Receive, send: Send) -> None:
    """Completes its start after the test has opened the gate `start`."""
    if scope["type"] != "lifespan":
        return await http(scope, receive, send)
    probe.record((await receive())["type"])
    await probe.pass_gate_async("start")
    probe.record("completed")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def start_fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Reports that its start has failed."""
    if scope["type"] != "lifespan":
        return await http(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    """Does not know the protocol."""
    if scope["type"] == "lifespan":
        probe.record("raised")
        raise RuntimeError("no lifespan here")
    await http(scope, receive, send)


async def raises_late(scope: Scope, receive: Receive, send: Send) -> None:
    """Raises after it has received the first message."""
    if scope["type"] == "lifespan":
        await receive()
        probe.record("raised")
        raise RuntimeError("no lifespan here")
    await http(scope, receive, send)


async def stop_fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Reports that its stop has failed."""
    if scope["type"] != "lifespan":
        return await http(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "the pool is not empty"})


async def stop_raises(scope: Scope, receive: Receive, send: Send) -> None:
    """Raises an exception at its stop."""
    if scope["type"] != "lifespan":
        return await http(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise RuntimeError("the stop raises")


async def task(scope: Scope, receive: Receive, send: Send) -> None:
    """Has a task that runs from the start to the stop, and that a request can see working."""
    if scope["type"] != "lifespan":
        # The turns of the task before and after this wait.
        before = scope["state"]["turns"][0]
        while scope["state"]["turns"][0] < before + 3:
            await asyncio.sleep(0)
        return await http(scope, receive, send)
    turns = scope["state"]["turns"] = [0]

    async def turn() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0.001)

    await receive()
    running = asyncio.create_task(turn())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    probe.record("shutdown", is_running=not running.done())
    running.cancel()
    await asyncio.wait([running])
    await send({"type": "lifespan.shutdown.complete"})


def factory() -> Any:
    """Returns an application."""
    return complete
