"""Starlette: sync and async endpoints, a streamed response, a streamed upload, and a WebSocket, as plain functions."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


def pause(request: Request) -> float:
    """The time in seconds that an endpoint waits: the parameter `seconds`, or 1."""
    return float(request.query_params.get("seconds", 1))


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Hello, World!\n")


def wait(request: Request) -> PlainTextResponse:
    time.sleep(pause(request))  # Starlette calls a sync endpoint on a thread, so this stalls no other request.
    return PlainTextResponse("Done!\n")


async def load_data(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "Done!"


async def data(request: Request) -> JSONResponse:
    return JSONResponse({"data": await load_data(pause(request))})


async def count(request: Request) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(request.path_params["end"]):
            await asyncio.sleep(pause(request))
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


async def upload(request: Request) -> JSONResponse:
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/wait", wait),
        Route("/data", data),
        Route("/count/{end:int}", count),
        Route("/upload", upload, methods=["POST"]),
        WebSocketRoute("/echo", echo),
    ]
)
