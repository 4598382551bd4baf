"""A client of WebSocket connections."""

from __future__ import annotations

from typing import Any

from probe import DEADLINE
from serving import Server
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def opened(server: Server, path: str, **options: Any) -> ClientConnection:
    """A WebSocket to a path."""
    options = {"open_timeout": DEADLINE, "close_timeout": DEADLINE, "max_size": None, "proxy": None, **options}
    return connect(server.websocket_url + path, **options)


def masked(text: str) -> bytes:
    """The frame of a short text, as a client sends it."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


def closed(websocket: ClientConnection) -> Close | None:
    """The close that the server sends; None if the connection ends without one."""
    try:
        while True:
            websocket.recv(DEADLINE)
    except ConnectionClosed as error:
        return error.rcvd
