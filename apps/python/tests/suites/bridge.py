"""An ASGI application that stands for another one behind the live server.

`through(app)` takes the place of an application in a test client that calls applications itself: it sends the
messages of the client as a request over a socket, and gives the response back as messages. The server calls `app`.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import h11
import live
import websockets.exceptions
from websockets.asyncio.client import connect

# The keys of a scope that the server takes from the request and from its socket.
SERVERS = ("type", "asgi", "http_version", "method", "path", "raw_path", "query_string", "headers", "server")
HANDSHAKE = ("host", "connection", "upgrade", "sec-websocket-")


def through(app: Any) -> Any:
    """The application that sends its requests to the live server, which serves `app`."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        extra = {key: value for key, value in scope.items() if key not in (*SERVERS, "extensions", "subprotocols")}
        if extra.get("scheme") in ("http", "ws"):
            del extra["scheme"]
        call = live.Call(app, extra)
        if scope["type"] == "http":
            await _http(call, scope, receive, send)
        else:
            await _websocket(call, scope, receive, send)
        await asyncio.to_thread(call.raise_error)

    return application


def _target(scope: Any) -> bytes:
    path = quote(scope["path"], safe="/:@!$&'()*+,;=~").encode()
    query = scope.get("query_string") or b""
    query = query.encode() if isinstance(query, str) else query
    return (path or b"/") + (b"?" + query if query else b"")


async def _http(call: live.Call, scope: Any, receive: Any, send: Any) -> None:
    reader, writer = await asyncio.open_connection(*live.server("asgi").address)
    connection = h11.Connection(h11.CLIENT)
    # The bytes that may be the last ones of the body.
    body: bytes | None = None
    sending = asyncio.ensure_future(_send_request(connection, writer, call, scope, receive))
    try:
        while not isinstance(event := connection.next_event(), (h11.EndOfMessage, h11.ConnectionClosed)):
            if event is h11.NEED_DATA:
                if body is not None:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    body = None
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                own = (b"date", b"connection")
                fields = [(n, v) for n, v in event.headers.raw_items() if n.lower() not in own and v != b"gearshift"]
                await send({"type": "http.response.start", "status": event.status_code, "headers": fields})
            elif isinstance(event, h11.Data):
                body = (body or b"") + bytes(event.data)
        await send({"type": "http.response.body", "body": body or b"", "more_body": False})
    except (h11.RemoteProtocolError, ConnectionError):
        # The server has cut the response, because the application has failed or the client has left.
        pass
    finally:
        sending.cancel()
        writer.close()


async def _send_request(connection: Any, writer: Any, call: live.Call, scope: Any, receive: Any) -> None:
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"connection"]
    names = [name.lower() for name, _ in headers]
    message = await receive()
    has_body = bool(message.get("body")) or message.get("more_body", False)
    if has_body and not {b"content-length", b"transfer-encoding"} & set(names):
        headers.append((b"transfer-encoding", b"chunked"))
    if b"host" not in names:
        headers.append((b"host", (scope.get("server") or ["localhost"])[0].encode()))
    headers += [(live.FIELD.encode(), call.name.encode()), (b"connection", b"close")]
    request = h11.Request(method=scope["method"], target=_target(scope), headers=headers)
    writer.write(connection.send(request))
    while message["type"] == "http.request":
        writer.write(connection.send(h11.Data(data=message.get("body", b""))) or b"")
        if not message.get("more_body", False):
            writer.write(connection.send(h11.EndOfMessage()) or b"")
        message = await receive()
    writer.close()


async def _websocket(call: live.Call, scope: Any, receive: Any, send: Any) -> None:
    host, port = live.server("asgi").address
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    fields = [(name, value) for name, value in fields if not name.lower().startswith(HANDSHAKE)]
    try:
        socket = await connect(
            f"ws://{host}:{port}{_target(scope).decode()}",
            additional_headers=[*fields, (live.FIELD, call.name)],
            subprotocols=scope.get("subprotocols") or None,
            user_agent_header=None,
            compression=None,
            open_timeout=live.TIMEOUT,
            close_timeout=live.TIMEOUT,
            proxy=None,
        )
    except websockets.exceptions.InvalidStatus as error:
        await _rejected(error.response, send)
        return
    await send({"type": "websocket.accept", "subprotocol": socket.subprotocol, "headers": []})
    receiving = asyncio.ensure_future(_receive_all(socket, send))
    while (message := await receive())["type"] in ("websocket.connect", "websocket.receive"):
        if message["type"] == "websocket.receive":
            text = message.get("text")
            await socket.send(message["bytes"] if text is None else text)
    await socket.close(message.get("code", 1000))
    await receiving


async def _rejected(response: Any, send: Any) -> None:
    if response.status_code == 403 and response.body in (b"", b"Forbidden\n"):
        await send({"type": "websocket.close", "code": 1006})
        return
    headers = [(name.encode(), value.encode()) for name, value in response.headers.raw_items()]
    await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": response.body or b"", "more_body": False})


async def _receive_all(socket: Any, send: Any) -> None:
    try:
        async for data in socket:
            await send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
    except websockets.exceptions.ConnectionClosedError:
        # The close code tells why.
        pass
    await send({"type": "websocket.close", "code": socket.close_code or 1006})
