"""Starlette: CPU-bound work (Pillow makes a picture smaller) inline, and in `run_in_executor` on threads and processes.

Inline, the work stalls every request of the event loop. Pillow releases the GIL, so a thread is enough for it. Work in
pure Python holds the GIL, and needs a process.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from multiprocessing import get_context
from typing import TypedDict

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

SIZE = (320, 240)


class State(TypedDict):
    """What the start of the application makes for its requests."""

    threads: Executor
    processes: Executor


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    # A server has threads, and a process with threads must not fork. The end of the block waits for both pools.
    context = get_context("spawn")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, mp_context=context) as processes:
        yield {"threads": threads, "processes": processes}


def resize(picture: bytes) -> bytes:
    """A JPEG of at most `SIZE`. A process finds this function by its name, so it is at the top of the module."""
    output = BytesIO()
    with Image.open(BytesIO(picture)) as image:
        image.thumbnail(SIZE)
        image.save(output, "JPEG")
    return output.getvalue()


async def inline(request: Request) -> Response:
    return Response(resize(await request.body()), media_type="image/jpeg")


async def on_thread(request: Request) -> Response:
    loop = asyncio.get_running_loop()
    picture = await loop.run_in_executor(request.state.threads, resize, await request.body())
    return Response(picture, media_type="image/jpeg")


async def in_process(request: Request) -> Response:
    loop = asyncio.get_running_loop()
    picture = await loop.run_in_executor(request.state.processes, resize, await request.body())
    return Response(picture, media_type="image/jpeg")


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("POST a picture to /inline, /thread or /process\n")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", hello),
        Route("/inline", inline, methods=["POST"]),
        Route("/thread", on_thread, methods=["POST"]),
        Route("/process", in_process, methods=["POST"]),
    ],
)
