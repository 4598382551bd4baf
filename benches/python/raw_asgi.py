"""The application as an ASGI callable without a framework. README.md lists the routes."""

import asyncio
import json

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"


async def plaintext(receive):
    return 200, TEXT, b"Hello, World!"


async def as_json(receive):
    return 200, JSON, json.dumps({"message": "Hello, World!"}).encode()


async def wait(receive, milliseconds=10):
    await asyncio.sleep(milliseconds / 1000)
    return 200, TEXT, b"Hello, World!"


async def echo(receive):
    data = await body(receive)
    return (200, b"application/octet-stream", data) if data else empty()


async def upload(receive):
    data = await body(receive)
    return (200, TEXT, str(len(data)).encode()) if data else empty()


def empty():
    return 400, TEXT, b"the body is empty"


async def body(receive):
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


ROUTES = {"/plaintext": plaintext, "/json": as_json, "/wait": wait, "/echo": echo, "/upload": upload}


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"]
    route = ROUTES.get(path)
    if route is not None:
        status, content_type, data = await route(receive)
    elif path.startswith("/wait/"):
        status, content_type, data = await wait(receive, int(path[6:]))
    else:
        status, content_type, data = 404, TEXT, b"no such route"
    headers = [(b"content-type", content_type), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
