"""A raw ASGI application for HTTP, with a view for each question of the tests."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import tempfile
from ast import literal_eval
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from probe import Probe

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
View = Callable[[Scope, Receive, Send], Awaitable[None]]

VIEWS: dict[str, View] = {}
TEXT = [(b"content-type", b"text/plain")]

# A value that a request sets, and no other request may see.
of_this_request = contextvars.ContextVar[str]("of_this_request", default="nothing")


def view(function: View) -> View:
    """Adds a view; its path is its name."""
    VIEWS[function.__name__] = function
    return function


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Calls the view that the first segment of the path names."""
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    assert scope["type"] == "http", scope["type"]
    rest = scope["path"].removeprefix(scope["root_path"])
    await VIEWS.get(rest.split("/")[1] if "/" in rest else "", missing)(scope, receive, send)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Sets a state of two values."""
    scope["state"].update(number=1, shared=[])
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def argument(scope: Scope, name: str, default: str = "") -> str:
    """A parameter of the query string."""
    return parse_qs(scope["query_string"].decode()).get(name, [default])[0]


def probe_of(scope: Scope) -> Probe:
    """The probe of the request."""
    return Probe.of(scope["query_string"])


def described(error: BaseException) -> dict[str, Any]:
    """The type of an exception, and the names of its base classes."""
    return {"type": type(error).__name__, "bases": [base.__name__ for base in type(error).__mro__]}


async def respond(send: Send, body: bytes, status: int = 200, headers: list[Any] = TEXT) -> None:
    """Sends a whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, value: object) -> None:
    """Sends a value of JSON."""
    await respond(send, json.dumps(value).encode())


async def body_of(receive: Receive) -> bytes:
    """The body of the request."""
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


# The scope


def described_value(value: Any) -> Any:
    """A value as its type and a value of JSON; bytes as text in ISO 8859-1."""
    match value:
        case bytes():
            return ["bytes", value.decode("latin-1")]
        case dict():
            return ["dict", {str(key): described_value(item) for key, item in value.items()}]
        case str() | bool() | int() | None:
            return [type(value).__name__, value]
        case _:
            return ["iterable", [described_value(item) for item in value]]


@view
async def scope(scope: Scope, receive: Receive, send: Send) -> None:
    """The scope, with the types of all its values."""
    await respond_json(send, {"type": type(scope).__name__, "keys": described_value(scope)[1]})


@view
async def state(scope: Scope, receive: Receive, send: Send) -> None:
    """Changes the state of the request, and returns the one that it found."""
    found = {"number": scope["state"]["number"], "shared": len(scope["state"]["shared"]), "keys": len(scope["state"])}
    scope["state"]["number"] += 1
    scope["state"]["mine"] = True
    scope["state"]["shared"].append(1)
    await respond_json(send, found)


@view
async def context(scope: Scope, receive: Receive, send: Send) -> None:
    """The asyncio of the request: its task, its loop, and a context variable before and after it is set."""
    before = of_this_request.get()
    of_this_request.set(argument(scope, "value"))
    await asyncio.sleep(0)
    task = asyncio.current_task()
    inner = await asyncio.create_task(inherited())
    await respond_json(
        send,
        {
            "task": task is not None and not task.done(),
            "loop": asyncio.get_running_loop().is_running(),
            "before": before,
            "after": of_this_request.get(),
            "inner": inner,
        },
    )


async def inherited() -> str:
    """The context variable in a task that the request has started."""
    await asyncio.sleep(0)
    return of_this_request.get()


# The body of the request


@view
async def digest(scope: Scope, receive: Receive, send: Send) -> None:
    """The length and the digest of the body, and the types of its messages."""
    digest, size, count, kinds = hashlib.sha256(), 0, 0, set()
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body, more = message.get("body", b""), message.get("more_body", False)
        kinds.add((type(body).__name__, type(more).__name__))
        digest.update(body)
        size, count = size + len(body), count + 1
        if not more:
            break
    await respond_json(
        send, {"size": size, "sha256": digest.hexdigest(), "messages": count, "kinds": sorted(map(list, kinds))}
    )


@view
async def messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Records each message of the request until the body has ended or the client has left."""
    probe = probe_of(scope)
    while True:
        message = await receive()
        probe.record(message["type"], size=len(message.get("body", b"")), more=message.get("more_body", False))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    await respond(send, b"received")


@view
async def slow_reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Receives the body after the test has opened the gate `read`."""
    probe = probe_of(scope)
    probe.record("called")
    await probe.pass_gate_async("read")
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await respond_json(send, size)


@view
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends each piece of the body back as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


# Disconnects


@view
async def after_the_response(scope: Scope, receive: Receive, send: Send) -> None:
    """Records what it receives after the response was sent."""
    probe = probe_of(scope)
    await body_of(receive)
    await respond(send, b"sent")
    probe.record((await receive())["type"])


@view
async def waits_for_disconnect(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits until the client leaves, then sends; with `start`, after the response has begun."""
    probe = probe_of(scope)
    await body_of(receive)
    if argument(scope, "start"):
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
    probe.record("waiting")
    probe.record((await receive())["type"])
    probe.record((await receive())["type"])
    try:
        if not argument(scope, "start"):
            await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"late"})
    except Exception as error:
        probe.record("error", **described(error))
        raise
    probe.record("no error")


@view
async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends 64 KiB until the parameter `count`, or until an error; the progress is the number of messages."""
    probe = probe_of(scope)
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    try:
        for number in range(int(argument(scope, "count", "20000"))):
            probe.progress(number)
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    except Exception as error:
        probe.record("error", **described(error))
        raise
    await send({"type": "http.response.body"})
    probe.record("end")


@view
async def generates(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the items of an asynchronous generator until that fails. The generator records its end."""
    probe = probe_of(scope)

    async def items() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
                await asyncio.sleep(0.001)
        finally:
            probe.record("end")

    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    async for item in items():
        await send({"type": "http.response.body", "body": item, "more_body": True})


@view
async def sleeps(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits for an event that does not come, and records how the wait ends."""
    probe = probe_of(scope)
    if argument(scope, "start"):
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
    probe.record("waiting")
    try:
        await probe.pass_gate_async("wake")
    except BaseException as error:
        probe.record("error", **described(error))
        raise
    probe.record("woken")
    if not argument(scope, "start"):
        await respond(send, b"woken")


# The response


@view
async def sends(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the messages of the parameter `messages`, a Python literal, and records an error and its index."""
    probe = probe_of(scope)
    for index, message in enumerate(literal_eval(argument(scope, "messages"))):
        try:
            await send(message)
        except Exception as error:
            probe.record("error", index=index, **described(error))
            if argument(scope, "catch"):
                return await respond(send, b"caught")
            raise
        probe.record("sent")


@view
async def gated(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends three messages; each but the first one after the test has opened the gate of its name."""
    probe = probe_of(scope)
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    for name in ["one", "two", "three"]:
        if name != "one":
            await probe.pass_gate_async(name)
        probe.record(name)
        await send({"type": "http.response.body", "body": name.encode(), "more_body": name != "three"})
    probe.record("end")


@view
async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Raises at the place of the parameter `at`; the message is the parameter `message`."""
    at, error = argument(scope, "at"), RuntimeError(argument(scope, "message"))
    if at == "call":
        raise error
    fields = TEXT + ([(b"content-length", b"100")] if at == "length" else [])
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if at == "started":
        raise error
    await send({"type": "http.response.body", "body": b"part", "more_body": at != "ended"})
    if at != "ended":
        await probe_of(scope).pass_gate_async("raise")
    raise error


@view
async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Returns at the place of the parameter `at`, before the response is complete."""
    at = argument(scope, "at")
    if at == "start":
        return
    await send({"type": "http.response.start", "status": 200, "headers": TEXT})
    if at == "body":
        return
    await send({"type": "http.response.body", "body": b"part", "more_body": True})


@view
async def after_work(scope: Scope, receive: Receive, send: Send) -> None:
    """Works on after the response, as a background task does."""
    probe = probe_of(scope)
    await respond(send, b"sent")
    await probe.pass_gate_async("work")
    probe.record("worked")


@view
async def path_send(scope: Scope, receive: Receive, send: Send) -> None:
    """A file by its path."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"line\n" * 50_000)
        file.flush()
        fields = [*TEXT, (b"content-length", b"250000")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.pathsend", "path": file.name})


@view
async def meets(scope: Scope, receive: Receive, send: Send) -> None:
    """Waits until the test opens the gate `go`; the test opens it when several requests are here."""
    probe = probe_of(scope)
    probe.record("here")
    await probe.pass_gate_async("go")
    await respond(send, b"met")


@view
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """A whole response."""
    await respond(send, b"Hello, World!\n")
