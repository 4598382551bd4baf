"""Raw ASGI applications that show what the first step of a request's task has around it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from typing import Any

from anyio import to_thread
from apps_asgi import Receive, Scope, Send

of_this_request = contextvars.ContextVar[str]("of_this_request", default="nothing")
# What tasks and callbacks have noted, by the path of the request that has made them.
noted: dict[str, list[str]] = {}
# Tasks that only the loop refers to may be collected.
kept: set[Any] = set()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with JSON, without ever waiting."""
    assert scope["type"] in ("lifespan", "http")
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    loop, path = asyncio.get_running_loop(), scope["path"]
    task = asyncio.current_task()
    assert task is not None
    before = of_this_request.get()
    of_this_request.set(path)
    answer: dict[str, Any] = {"noted": noted.get(path, [])}
    if path.startswith("/callback"):
        loop.call_soon(note, path, "callback")
        answer["noted"] = noted.get(path, [])
    elif path.startswith("/task"):
        kept.add(asyncio.create_task(background(path)))
        answer["noted"] = noted.get(path, [])
    elif path.startswith("/threadsafe"):
        loop.call_soon_threadsafe(note, path, "threadsafe")
        answer["noted"] = noted.get(path, [])
    elif path.startswith("/timer"):
        loop.call_later(0.05, note, path, "timer")
    elif path.startswith("/generator"):
        async for _ in generator(path):
            break
    answer |= {
        "before": before,
        "name": task.get_name(),
        "is_running": loop.is_running(),
        "is_current": task in asyncio.all_tasks(),
        "time": loop.time(),
        "noted_of": noted.get(scope["query_string"].decode(), []),
    }
    body = json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts and stops."""
    if (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


def note(path: str, what: str) -> None:
    """Notes that something has happened for a request."""
    noted.setdefault(path, []).append(what)


async def background(path: str) -> None:
    """The task of a request that does not wait for it."""
    note(path, f"task after {of_this_request.get()}")


async def generator(path: str) -> Any:
    """A generator that its request leaves behind."""
    try:
        yield 1
        yield 2
    finally:
        note(path, "generator")


made: list[str] = []


async def with_factory(scope: Scope, receive: Receive, send: Send) -> None:
    """Sets a factory of tasks before the first request."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(type(coroutine).__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    if scope["type"] == "lifespan":
        asyncio.get_running_loop().set_task_factory(factory)
        return await lifespan(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(made)).encode()})


calls: list[str] = []


async def with_call_soon(scope: Scope, receive: Receive, send: Send) -> None:
    """Counts the calls of `call_soon`, as tools for tracing do, and answers with their number."""
    if scope["type"] == "lifespan":
        loop = asyncio.get_running_loop()
        call_soon = loop.call_soon

        def counted(callback: Any, *args: Any, **options: Any) -> asyncio.Handle:
            calls.append(repr(callback))
            return call_soon(callback, *args, **options)

        loop.call_soon = counted  # type: ignore[method-assign]
        return await lifespan(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(calls)).encode()})


opened = asyncio.Event()


async def nested(scope: Scope, receive: Receive, send: Send) -> None:
    """`/inside` runs the loop inside its step until `/opens` has come. Packages such as `nest_asyncio` do so."""
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    if scope["path"] == "/opens":
        opened.set()
    else:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        waiting = len(loop._ready)  # type: ignore[attr-defined]
        asyncio.tasks._leave_task(loop, task)  # type: ignore[attr-defined]
        while not opened.is_set():
            loop._run_once()  # type: ignore[attr-defined]
        asyncio.tasks._enter_task(loop, task)  # type: ignore[attr-defined]
        # The turn of the loop in which this step is made has counted the callbacks that were ready, and takes as many.
        for _ in range(waiting):
            loop.call_soon(lambda: None)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def on_thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a thread of anyio, on which FastAPI and Starlette run `def` views."""
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    name = await to_thread.run_sync(lambda: threading.current_thread().name + str(threading.get_native_id()))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": name.encode()})
