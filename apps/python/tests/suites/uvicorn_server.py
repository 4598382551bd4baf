"""Points the protocol tests of uvicorn at a live server. A plugin of pytest.

Two functions of its tests are replaced: `run_server`, which starts a server for a `Config`, and
`get_connected_protocol`, which connects a protocol object in memory to an application. The second one becomes a
socket to the live server.
"""

from __future__ import annotations

import asyncio
import queue
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import live

# The time in seconds without bytes after which a response counts as complete.
QUIET = 0.15


def flags_of(options: dict[str, Any]) -> list[str]:
    """The flags of the command line for the settings of uvicorn that exist here."""
    # A stop has to end before a test fails.
    flags = ["--graceful-timeout", "2s"]
    if options.get("root_path"):
        flags += ["--root-path", options["root_path"]]
    if options.get("lifespan") in ("on", "off"):
        flags += ["--lifespan", options["lifespan"]]
    if options.get("ws_max_size"):
        flags += ["--ws-max-size", str(options["ws_max_size"])]
    if options.get("limit_concurrency"):
        flags += ["--max-connections", str(options["limit_concurrency"]), "--overload", "refuse"]
    if options.get("ssl_certfile"):
        # Uvicorn finds the key in the file of the certificate if no other is named.
        key = options.get("ssl_keyfile") or options["ssl_certfile"]
        flags += ["--tls-cert", str(options["ssl_certfile"]), "--tls-key", str(key)]
    for key, flag in (("date_header", "--no-date-header"), ("server_header", "--no-server-header")):
        if options.get(key) is False:
            flags.append(flag)
    return flags


class Running:
    """What a test of uvicorn may ask of its server."""

    def __init__(self, server: live.Server) -> None:
        self._server: live.Server | None = server

    async def shutdown(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            assert await asyncio.to_thread(server.stop) is not None


@asynccontextmanager
async def run_server(config: Any, sockets: Any = None) -> AsyncIterator[Running]:
    """Serves the application of a `Config` of uvicorn on its port."""
    live.stop_all()
    host = config.host or "127.0.0.1"
    bind = f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}"
    flags = flags_of(vars(config))
    if config.uds:
        bind = f"unix:{config.uds}"
    live.set_direct(config.app)
    server = await asyncio.to_thread(live.Server, "asgi", *flags, bind=bind, target="live:direct")
    running = Running(server)
    try:
        yield running
    finally:
        await running.shutdown()


def lowered(response: bytes) -> bytes:
    """The response with its field names in lower case, as uvicorn writes them. The case of a name has no meaning."""
    head, separator, body = response.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = [b":".join([line.partition(b":")[0].lower(), line.partition(b":")[2]]) for line in lines[1:]]
    return b"\r\n".join([lines[0], *fields]) + separator + body


class Transport:
    """The client's end of a connection, with the methods of a transport in memory."""

    def __init__(self, address: Any) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._is_at_end = False

    def _read(self, timeout: float) -> bool:
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        self._buffer = lowered(self._buffer + data)
        self._is_at_end = not data
        return bool(data)

    @property
    def buffer(self) -> bytes:
        while not self._is_at_end and self._read(QUIET):
            pass
        return self._buffer

    def clear_buffer(self) -> None:
        self._buffer = b""

    def is_closing(self) -> bool:
        while not self._is_at_end and self._read(2 * QUIET):
            pass
        return self._is_at_end


class Loop:
    """Waits for the ends of the application, where the loop in memory runs it."""

    def __init__(self) -> None:
        self.ends: queue.SimpleQueue[None] = queue.SimpleQueue()

    async def run_one(self) -> None:
        await asyncio.to_thread(self.ends.get, True, live.TIMEOUT)


class Protocol:
    """A connection to the live server, with the methods of a protocol of uvicorn that has a transport in memory."""

    def __init__(self, app: Any, flags: list[str], state: dict[str, Any] | None) -> None:
        self.loop = Loop()
        self.scope: Any = None

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            self.scope = scope
            try:
                await app(scope, receive, send)
            finally:
                self.loop.ends.put(None)

        extra = {} if state is None else {"state": state}
        live.set_default(noted, extra)
        self.transport = Transport(live.server("asgi", *flags).address)

    def data_received(self, data: bytes) -> None:
        try:
            self.transport.socket.sendall(data)
        except ConnectionError:
            # The server has refused the first part.
            pass

    def eof_received(self) -> None:
        self.transport.socket.shutdown(socket.SHUT_WR)

    def connection_lost(self, _: Any) -> None:
        self.transport.socket.close()


def get_connected_protocol(app: Any, _: Any, lifespan: Any = None, **options: Any) -> Protocol:
    """A connection to a server that serves `app`."""
    return Protocol(app, flags_of(options), None if lifespan is None else lifespan.state)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for module in {item.module for item in items}:
        if hasattr(module, "run_server"):
            module.run_server = run_server
        if hasattr(module, "MockTransport") and module.__name__.endswith("test_http"):
            module.get_connected_protocol = get_connected_protocol
