"""Applications for the tests of messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from probe import Probe
from starlette.applications import Starlette


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application that exits or waits."""
    if environ["PATH_INFO"] == "/exits":
        sys.exit(7)
    if environ["PATH_INFO"] == "/waits":
        Probe.of(environ["QUERY_STRING"]).pass_gate("waits")
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


@asynccontextmanager
async def _lifespan(_: Starlette):
    raise RuntimeError("no database")
    yield


starlette = Starlette(lifespan=_lifespan)
