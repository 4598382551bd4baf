"""Applications for the tests of messages."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from probe import Probe
from starlette.applications import Starlette


def names_of_thread() -> str:
    """The name of this thread in Python, and in the system, which cuts it after 15 bytes."""
    in_system = Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text()
    return f"{threading.current_thread().name}\n{in_system}"


def status_of_fork() -> str:
    """The exit status of a process that this thread forks, and that does nothing."""
    process = get_context("fork").Process()
    process.start()
    process.join()
    return str(process.exitcode)


PAGES = {"/thread": names_of_thread, "/forks": status_of_fork}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application that exits or waits."""
    if environ["PATH_INFO"] == "/exits":
        sys.exit(7)
    if environ["PATH_INFO"] == "/waits":
        Probe.of(environ["QUERY_STRING"]).pass_gate("waits")
    if environ["PATH_INFO"] in PAGES:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [PAGES[environ["PATH_INFO"]]().encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.url_scheme"].encode()]


def create_app(name: str = "") -> Callable[..., Any]:
    """A factory, which without --factory looks like an application."""
    return app


def failing() -> None:
    """A factory that fails."""
    raise ValueError("no settings")


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """An ASGI application that exits."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/exits":
        sys.exit(7)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def _decorated(inner: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return wrapper


def _decorated_with_a_trace(inner: Callable[..., Any]) -> Callable[..., Any]:
    return wraps(inner)(_decorated(inner))


class _Object:
    """An ASGI application whose `__call__` is no coroutine function and has a decorator."""

    @_decorated_with_a_trace
    def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> Any:
        return asgi(scope, receive, send)


class _Slotted:
    """An ASGI application whose instances have their own `__call__`."""

    __slots__ = ("__call__",)

    def __init__(self) -> None:
        self.__call__ = asgi


@wraps(asgi)
def adapted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application that says it wraps one of ASGI."""
    return app(environ, start_response)


def _of_view(view: Callable[..., bytes]) -> Callable[..., Any]:
    """A WSGI application of a function with another argument, as `Request.application` of Werkzeug makes it."""

    @wraps(view)
    def application(*args: Any) -> Iterable[bytes]:
        environ, start_response = args[-2:]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [view(environ)]

    return application


@_of_view
def view(request: dict[str, Any]) -> bytes:
    """A view."""
    return request["wsgi.url_scheme"].encode()


decorated = _decorated_with_a_trace(asgi)
decorated_twice = _decorated_with_a_trace(decorated)
decorated_wsgi = _decorated_with_a_trace(app)
decorated_without_a_trace = _decorated(asgi)
decorated_object = _Object()
slotted = _Slotted()


async def failing_lifespan(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    """An ASGI application whose lifespan raises an exception with a text of two lines."""
    raise ValueError("first\nsecond")


@asynccontextmanager
async def _lifespan(_: Starlette):
    raise RuntimeError("no database")
    yield


starlette = Starlette(lifespan=_lifespan)
