"""The application in Flask. README.md lists the routes."""

import asyncio
import time

from flask import Flask, Response, jsonify, request

import work

app = Flask(__name__)
TEXT = "text/plain; charset=utf-8"


def text(answer: str) -> Response:
    return Response(answer, content_type=TEXT)


@app.get("/plaintext")
def plaintext():
    return text("Hello, World!")


@app.get("/async")
async def plaintext_async():
    return text("Hello, World!")


@app.get("/json")
def as_json():
    return jsonify(message="Hello, World!")


@app.get("/wait")
@app.get("/wait/<int:milliseconds>")
def wait(milliseconds: int = 10):
    time.sleep(milliseconds / 1000)
    return text("Hello, World!")


@app.post("/echo")
def echo():
    data = request.get_data()
    return Response(data, content_type="application/octet-stream") if data else empty()


@app.post("/upload")
def upload():
    data = request.get_data()
    return text(str(len(data))) if data else empty()


def empty() -> Response:
    return Response("the body is empty", 400, content_type=TEXT)


@app.get("/cpu/<int:rounds>")
def cpu(rounds: int):
    return text(work.count(rounds))


@app.get("/fan/<int:calls>/<int:milliseconds>")
async def fan(calls: int, milliseconds: int):
    await asyncio.gather(*(asyncio.sleep(milliseconds / 1000) for _ in range(calls)))
    return text("Hello, World!")
