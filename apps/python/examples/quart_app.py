"""Quart: the application of flask_app.py for ASGI, whose views wait on one event loop, and a WebSocket."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

from quart import Quart, Response, jsonify, request, websocket

app = Quart(__name__)


def pause() -> float:
    """The time in seconds that a view waits: the parameter `seconds`, or 1."""
    return request.args.get("seconds", 1.0, type=float)


@app.get("/")
async def hello() -> str:
    return "Hello, World!\n"


@app.get("/wait")
def wait() -> str:
    time.sleep(pause())  # Quart calls a sync view on a thread, so this stalls no other request.
    return "Done!\n"


async def load_data(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "Done!"


@app.get("/data")
async def data() -> Response:
    return jsonify(data=await load_data(pause()))


@app.get("/count/<int:end>")
async def count(end: int) -> Response:
    seconds = pause()

    async def lines() -> AsyncIterator[str]:
        for number in range(end):
            await asyncio.sleep(seconds)
            yield f"{number}\n"

    return Response(lines(), mimetype="text/plain")


@app.post("/upload")
async def upload() -> Response:
    digest, size = hashlib.sha256(), 0
    async for piece in request.body:
        digest.update(piece)
        size += len(piece)
    return jsonify(size=size, sha256=digest.hexdigest())


@app.websocket("/echo")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())
