"""Points the test client of Starlette, which FastAPI uses too, at a live server. A plugin of pytest.

`starlette.testclient.TestClient` calls the application itself. With this plugin it sends the same requests over
sockets. The client still runs the lifespan, and hands its state, its address and its root path to the application of
each request. As before, it raises the exceptions of the application in the test.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import live
import websockets.exceptions
from starlette import testclient
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

httpx = testclient.httpx

# The fields that a WebSocket client writes itself.
HANDSHAKE = ("host", "connection", "upgrade", "sec-websocket-")


class Stream(httpx.SyncByteStream):
    """The body of a response. At its end, the client raises the exception of the application."""

    def __init__(self, stream: Any, call: live.Call, raises: bool) -> None:
        self._stream = stream
        self._call = call
        self._raises = raises
        self._is_complete = False

    def __iter__(self) -> Any:
        try:
            yield from self._stream
        except httpx.RemoteProtocolError:
            # The server cuts the response of an application that has failed.
            self._finish()
            raise
        self._is_complete = True

    def close(self) -> None:
        self._stream.close()
        if self._is_complete:
            self._finish()

    def _finish(self) -> None:
        if self._raises:
            self._call.raise_error()
        else:
            self._call.ended.wait(live.TIMEOUT)


class Transport(httpx.BaseTransport):
    """Sends requests for any host to the live server."""

    def __init__(
        self,
        app: Any,
        portal_factory: Any,
        raise_server_exceptions: bool = True,
        root_path: str = "",
        *,
        client: tuple[str, int],
        app_state: dict[str, Any],
    ) -> None:
        self.app = app
        self.raises = raise_server_exceptions
        self.root_path = root_path
        self.client = client
        self.app_state = app_state
        self._http = httpx.HTTPTransport()

    def handle_request(self, request: Any) -> Any:
        scheme = request.url.scheme
        extra = {"client": self.client, "root_path": self.root_path, "state": self.app_state.copy()}
        if scheme in ("https", "wss"):
            extra["scheme"] = scheme
        call = live.Call(self.app, extra)
        host, port = live.server("asgi").address
        if scheme in ("ws", "wss"):
            raise testclient._Upgrade(Session(request, call, (host, port)))
        sent = httpx.Request(
            request.method,
            request.url.copy_with(scheme="http", host=host, port=port),
            headers=[*request.headers.raw, (live.FIELD.encode(), call.name.encode())],
            stream=request.stream,
            extensions=request.extensions,
        )
        try:
            response = self._http.handle_request(sent)
        except httpx.RemoteProtocolError:
            if self.raises:
                call.raise_error()
            raise
        if response.status_code == 500 and self.raises and call.ended.wait(live.TIMEOUT) and call.error is not None:
            response.close()
            call.raise_error()
        response.stream = Stream(response.stream, call, self.raises)
        return response

    def close(self) -> None:
        self._http.close()


class Session:
    """A WebSocket to the live server, with the methods of `starlette.testclient.WebSocketTestSession`."""

    def __init__(self, request: Any, call: live.Call, address: tuple[str, int]) -> None:
        self._request = request
        self._call = call
        self._address = address
        self.accepted_subprotocol: str | None = None
        self.extra_headers: Any = None

    def __enter__(self) -> Session:
        headers = self._request.headers
        protocols = headers.get("sec-websocket-protocol")
        fields = [(name, value) for name, value in headers.multi_items() if not name.lower().startswith(HANDSHAKE)]
        agent = headers.get("user-agent")
        try:
            self._socket = connect(
                str(self._request.url.copy_with(scheme="ws")),
                sock=socket.create_connection(self._address),
                additional_headers=[*((n, v) for n, v in fields if n != "user-agent"), (live.FIELD, self._call.name)],
                user_agent_header=agent,
                subprotocols=[each.strip() for each in protocols.split(",")] if protocols else None,
                compression=None,
                close_timeout=live.TIMEOUT,
                open_timeout=live.TIMEOUT,
                max_size=None,
                legacy=True,
            )
        except websockets.exceptions.InvalidStatus as error:
            self._call.raise_error()
            answer = error.response
            if answer.status_code == 403 and answer.body in (b"", b"Forbidden\n"):
                # The application has sent websocket.close. Its code does not cross the network.
                raise WebSocketDisconnect(code=1006) from None
            headers = [(name, value) for name, value in answer.headers.raw_items()]
            denial = testclient.WebSocketDenialResponse(
                status_code=answer.status_code, headers=headers, content=bytes(answer.body or b"")
            )
            denial.read()
            raise denial from None
        self.accepted_subprotocol = self._socket.subprotocol
        answered = self._socket.response.headers.raw_items()
        own = ("upgrade", "connection", "sec-websocket-", "date", "server")
        self.extra_headers = [
            (name.encode(), value.encode()) for name, value in answered if not name.lower().startswith(own)
        ]
        return self

    def __exit__(self, *_: Any) -> None:
        self.close(1000)
        self._call.raise_error()

    def send(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            self._socket.close(message.get("code", 1000), message.get("reason") or "")
        elif message.get("text") is not None:
            self._socket.send(message["text"])
        elif message.get("bytes") is not None:
            self._socket.send(message["bytes"])

    def send_text(self, data: str) -> None:
        self.send({"type": "websocket.receive", "text": data})

    def send_bytes(self, data: bytes) -> None:
        self.send({"type": "websocket.receive", "bytes": data})

    def send_json(self, data: Any, mode: str = "text") -> None:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        if mode == "text":
            self.send_text(text)
        else:
            self.send_bytes(text.encode())

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.send({"type": "websocket.disconnect", "code": code, "reason": reason})

    def receive(self) -> Any:
        try:
            data = self._socket.recv(timeout=live.TIMEOUT)
        except websockets.exceptions.ConnectionClosed as error:
            closed = error.rcvd
            code, reason = (1006, "") if closed is None else (closed.code, closed.reason)
            return {"type": "websocket.close", "code": code, "reason": reason}
        return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}

    def receive_text(self) -> str:
        return self._received("text")

    def receive_bytes(self) -> bytes:
        return self._received("bytes")

    def receive_json(self, mode: str = "text") -> Any:
        return json.loads(self._received(mode if mode == "text" else "bytes"))

    def _received(self, kind: str) -> Any:
        message = self.receive()
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(code=message["code"], reason=message["reason"])
        return message[kind]


testclient._TestClientTransport = Transport
testclient.WebSocketTestSession = Session
