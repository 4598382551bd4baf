"""A raw ASGI application for WebSocket, with a view for each question of the tests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from apps_asgi import Receive, Scope, Send, argument, described, described_value, lifespan, probe_of

VIEWS: dict[str, Any] = {}


def view(function: Any) -> Any:
    """Adds a view; its path is its name."""
    VIEWS[function.__name__] = function
    return function


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Calls the view that the first segment of the path names."""
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    name = scope["path"].removeprefix(scope["root_path"]).split("/")[1]
    if scope["type"] == "http":
        # A request that opens no WebSocket.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"http"})
        return
    assert scope["type"] == "websocket", scope["type"]
    await VIEWS[name](scope, receive, send)


async def accept(receive: Receive, send: Send, **keys: Any) -> None:
    """Accepts the handshake."""
    message = await receive()
    assert message["type"] == "websocket.connect", message
    await send({"type": "websocket.accept", **keys})


@view
async def scope(scope: Scope, receive: Receive, send: Send) -> None:
    """The scope, with the types of all its values, as a text. The client closes."""
    await accept(receive, send)
    await send({"type": "websocket.send", "text": json.dumps(described_value(scope)[1])})
    await receive()


@view
async def state(scope: Scope, receive: Receive, send: Send) -> None:
    """The state of the lifespan, as a text."""
    await accept(receive, send)
    number = scope["state"]["number"]
    scope["state"]["number"] += 1
    await send({"type": "websocket.send", "text": str(number)})
    await send({"type": "websocket.close"})


@view
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends each message back as it came, and records the end."""
    await accept(receive, send)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            break
        kind = "text" if message.get("text") is not None else "bytes"
        assert (message.get("text") is None) != (message.get("bytes") is None), message
        await send({"type": "websocket.send", kind: message[kind]})
    if argument(scope, "probe"):
        probe_of(scope).record("disconnect", code=message.get("code"), reason=message.get("reason"))


@view
async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts with a sub-protocol and fields, and sends the sub-protocols that the client offers."""
    protocol = argument(scope, "protocol") or None
    await accept(receive, send, subprotocol=protocol, headers=[(b"x-test", b"1"), (b"set-cookie", b"a=1")])
    await send({"type": "websocket.send", "text": json.dumps(list(scope["subprotocols"]))})
    await send({"type": "websocket.close"})


@view
async def slow_accept(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts after the test has opened the gate `accept`."""
    probe = probe_of(scope)
    probe.record((await receive())["type"])
    await probe.pass_gate_async("accept")
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


@view
async def rejects(scope: Scope, receive: Receive, send: Send) -> None:
    """Closes before it accepts, and records what it receives then."""
    probe = probe_of(scope)
    await receive()
    await send({"type": "websocket.close", "code": 4000, "reason": "no"})
    message = await receive()
    probe.record(message["type"], code=message.get("code"))


@view
async def denies(scope: Scope, receive: Receive, send: Send) -> None:
    """Rejects the handshake with a response of its own (the extension `websocket.http.response`)."""
    await receive()
    kind = "websocket.http.response"
    await send(
        {"type": f"{kind}.start", "status": 401, "headers": [(b"www-authenticate", b"Basic"), (b"x-test", b"1")]}
    )
    await send({"type": f"{kind}.body", "body": b"log ", "more_body": True})
    await send({"type": f"{kind}.body", "body": b"in"})


@view
async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    """Closes with the parameters `code` and `reason`, then records what `receive` and `send` do."""
    probe = probe_of(scope)
    await accept(receive, send)
    close = {"type": "websocket.close"}
    if code := argument(scope, "code"):
        close["code"] = int(code)
    if reason := argument(scope, "reason"):
        close["reason"] = reason
    await send({"type": "websocket.send", "text": "last"})
    await send(close)
    try:
        await send({"type": "websocket.send", "text": "late"})
    except Exception as error:
        probe.record("error", **described(error))
    else:
        probe.record("no error")
    message = await receive()
    probe.record(message["type"], code=message.get("code"), reason=message.get("reason"))


@view
async def closes_after_the_client(scope: Scope, receive: Receive, send: Send) -> None:
    """Closes the WebSocket after the client has closed it."""
    probe = probe_of(scope)
    await accept(receive, send)
    message = await receive()
    assert message["type"] == "websocket.disconnect", message
    try:
        await send({"type": "websocket.close", "code": 1000})
    except Exception as error:
        probe.record("end", **described(error))
        raise
    probe.record("end")


@view
async def after_the_client(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits until the client closes or leaves, then records what `send` does."""
    probe = probe_of(scope)
    await accept(receive, send)
    probe.record("waiting")
    message = await receive()
    assert message["type"] == "websocket.disconnect", message
    probe.record("disconnect", code=message.get("code"), reason=message.get("reason"))
    try:
        await send({"type": "websocket.send", "text": "late"})
    except Exception as error:
        probe.record("error", **described(error))
        raise
    probe.record("no error")


@view
async def sends(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the messages of the parameter `messages`, a list of JSON, and records an error and its index."""
    probe = probe_of(scope)
    await receive()
    for index, message in enumerate(json.loads(argument(scope, "messages"))):
        try:
            await send(message)
        except Exception as error:
            probe.record("error", index=index, **described(error))
            raise
        probe.record("sent")


@view
async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Raises, or returns, at the place of the parameter `at`; the message of the error is the parameter `message`."""
    at, message = argument(scope, "at"), argument(scope, "message")
    if at != "call":
        await receive()
    if at == "accepted":
        await send({"type": "websocket.accept"})
    if message:
        raise RuntimeError(message)


@view
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends `count` messages of 1 MiB; the progress is the number of messages."""
    probe = probe_of(scope)
    await accept(receive, send)
    for number in range(int(argument(scope, "count"))):
        probe.progress(number)
        await send({"type": "websocket.send", "bytes": b"x" * 1024 * 1024})
    await send({"type": "websocket.close"})


@view
async def slow_reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Receives after the test has opened the gate `read`, and sends the sum of the lengths."""
    probe = probe_of(scope)
    await accept(receive, send)
    await probe.pass_gate_async("read")
    size = 0
    for _ in range(int(argument(scope, "count"))):
        message = await receive()
        size += len(message["bytes"])
    await send({"type": "websocket.send", "text": str(size)})
    await send({"type": "websocket.close"})


@view
async def both_ways(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends while it waits for a message: the client stops it with one."""
    await accept(receive, send)
    waiting = asyncio.ensure_future(receive())
    number = 0
    while not waiting.done():
        await send({"type": "websocket.send", "text": str(number)})
        number += 1
        await asyncio.sleep(0.001)
    assert waiting.result()["text"] == "stop"
    await send({"type": "websocket.send", "text": "stopped"})
    await send({"type": "websocket.close"})


@view
async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Does not receive before the test opens the gate `read`; then records the number of messages and the end."""
    probe = probe_of(scope)
    await accept(receive, send)
    probe.record("waiting")
    await probe.pass_gate_async("read")
    try:
        await send({"type": "websocket.send", "text": "late"})
    except Exception as error:
        probe.record("error", **described(error))
    count = 0
    while (message := await receive())["type"] == "websocket.receive":
        count += 1
    probe.record(message["type"], code=message.get("code"), count=count)


@view
async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Returns when the test opens the gate `return`, and receives nothing."""
    probe = probe_of(scope)
    await accept(receive, send)
    await probe.pass_gate_async("return")
    probe.record("end")


class Callback:
    """A part of a message whose methods call a function."""

    def __init__(self, value: Any, function: Any) -> None:
        self.value = value
        self.function = function

    def __iter__(self) -> Any:
        self.function()
        return iter(self.value)

    def __index__(self) -> int:
        self.function()
        return self.value

    def __bool__(self) -> bool:
        self.function()
        return self.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        self.function()
        return self.value == other


@view
async def reenters(scope: Scope, receive: Receive, send: Send) -> None:
    """Calls `send` and `receive` from methods of the objects that messages have, in the way of the parameter `how`."""
    probe = probe_of(scope)

    def again() -> None:
        try:
            send({"type": "websocket.send", "text": "inner"})
        except RuntimeError:
            probe.record("refused")
        else:
            probe.record("sent")
        receive()

    how = argument(scope, "how")
    await receive()
    if how == "denial":
        kind, headers = "websocket.http.response", Callback([(b"x-test", b"1")], again)
        await send({"type": f"{kind}.start", "status": Callback(401, again), "headers": headers})
        await send({"type": f"{kind}.body", "body": b"denied", "more_body": Callback(False, again)})
        return
    await send({"type": "websocket.accept", "headers": Callback([(b"x-test", b"1")], again)})
    match how:
        case "accept":
            await send({"type": "websocket.close"})
        case "code":
            await send({"type": "websocket.close", "code": Callback(4000, again)})
        case "key":
            await send({Callback("type", again): "websocket.close"})
        case "last key":
            await send({"type": "websocket.close", "reason": "", Callback("code", again): 4000})
