"""The application in FastAPI. README.md lists the routes."""

import asyncio
import time

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response

import work

app = FastAPI()


@app.get("/plaintext", response_class=PlainTextResponse)
async def plaintext():
    return "Hello, World!"


@app.get("/def", response_class=PlainTextResponse)
def plaintext_def():
    return "Hello, World!"


@app.get("/json")
async def as_json():
    return {"message": "Hello, World!"}


@app.get("/wait", response_class=PlainTextResponse)
@app.get("/wait/{milliseconds}", response_class=PlainTextResponse)
async def wait(milliseconds: int = 10):
    await asyncio.sleep(milliseconds / 1000)
    return "Hello, World!"


@app.post("/echo")
async def echo(request: Request):
    data = await request.body()
    return Response(data, media_type="application/octet-stream") if data else empty()


@app.post("/upload")
async def upload(request: Request):
    data = await request.body()
    return PlainTextResponse(str(len(data))) if data else empty()


def empty() -> Response:
    return PlainTextResponse("the body is empty", 400)


@app.get("/block/{milliseconds}", response_class=PlainTextResponse)
async def block(milliseconds: int):
    time.sleep(milliseconds / 1000)
    return "Hello, World!"


@app.get("/offload/{milliseconds}", response_class=PlainTextResponse)
def offload(milliseconds: int):
    time.sleep(milliseconds / 1000)
    return "Hello, World!"


@app.get("/cpu/{rounds}", response_class=PlainTextResponse)
async def cpu(rounds: int):
    return work.count(rounds)


@app.get("/offload-cpu/{rounds}", response_class=PlainTextResponse)
def offload_cpu(rounds: int):
    return work.count(rounds)


@app.get("/fan/{calls}/{milliseconds}", response_class=PlainTextResponse)
async def fan(calls: int, milliseconds: int):
    await asyncio.gather(*(asyncio.sleep(milliseconds / 1000) for _ in range(calls)))
    return "Hello, World!"


@app.post("/later/{milliseconds}", response_class=PlainTextResponse)
async def later(milliseconds: int, tasks: BackgroundTasks):
    tasks.add_task(asyncio.sleep, milliseconds / 1000)
    return "Hello, World!"


@app.post("/resize/in-place")
async def resize_in_place(request: Request):
    return Response(work.thumbnail(await request.body()), media_type="image/jpeg")


@app.post("/resize")
async def resize(request: Request):
    picture = await request.body()
    return Response(await run_in_threadpool(work.thumbnail, picture), media_type="image/jpeg")
