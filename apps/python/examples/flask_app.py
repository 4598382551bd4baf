"""Flask: sync views and an async view in one WSGI application, a streamed response, and a streamed upload.

An async view of Flask holds its thread until it returns, as a sync view does. Flask starts an event loop for each call.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


def pause() -> float:
    """The time in seconds that a view waits: the parameter `seconds`, or 1."""
    return request.args.get("seconds", 1.0, type=float)


@app.get("/")
def hello() -> str:
    return "Hello, World!\n"


@app.get("/wait")
def wait() -> str:
    time.sleep(pause())
    return "Done!\n"


async def load_data(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "Done!"


@app.get("/data")
async def data() -> Response:
    return jsonify(data=await load_data(pause()))


@app.get("/count/<int:end>")
def count(end: int) -> Response:
    seconds = pause()

    def lines() -> Iterator[str]:
        for number in range(end):
            time.sleep(seconds)
            yield f"{number}\n"

    return Response(lines(), mimetype="text/plain")


@app.post("/upload")
def upload() -> Response:
    digest, size = hashlib.sha256(), 0
    while piece := request.stream.read(65536):
        digest.update(piece)
        size += len(piece)
    return jsonify(size=size, sha256=digest.hexdigest())
