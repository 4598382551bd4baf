"""FastAPI: `def` and `async def` endpoints side by side, state from the lifespan, and a WebSocket."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse


class State(TypedDict):
    """What the start of the application makes for its requests."""

    greeting: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    yield {"greeting": "Hello, World!\n"}


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=PlainTextResponse)
async def hello(request: Request) -> str:
    return request.state.greeting


@app.get("/wait", response_class=PlainTextResponse)
def wait(seconds: float = 1) -> str:
    time.sleep(seconds)  # FastAPI calls a `def` endpoint on a thread, so this stalls no other request.
    return "Done!\n"


async def load_data(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "Done!"


@app.get("/data")
async def data(seconds: float = 1) -> dict[str, str]:
    return {"data": await load_data(seconds)}


@app.get("/count/{end}")
async def count(end: int, seconds: float = 1) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(end):
            await asyncio.sleep(seconds)
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/upload")
async def upload(request: Request) -> dict[str, int | str]:
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
