"""The application in Starlette. README.md lists the routes."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


async def plaintext(request: Request) -> Response:
    return PlainTextResponse("Hello, World!")


async def as_json(request: Request) -> Response:
    return JSONResponse({"message": "Hello, World!"})


async def wait(request: Request) -> Response:
    await asyncio.sleep(request.path_params.get("milliseconds", 10) / 1000)
    return PlainTextResponse("Hello, World!")


async def echo(request: Request) -> Response:
    data = await request.body()
    return Response(data, media_type="application/octet-stream") if data else empty()


async def upload(request: Request) -> Response:
    data = await request.body()
    return PlainTextResponse(str(len(data))) if data else empty()


def empty() -> Response:
    return PlainTextResponse("the body is empty", 400)


app = Starlette(
    routes=[
        Route("/plaintext", plaintext),
        Route("/json", as_json),
        Route("/wait", wait),
        Route("/wait/{milliseconds:int}", wait),
        Route("/echo", echo, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
    ]
)
