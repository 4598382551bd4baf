"""Points the request tests of gunicorn at a live server. A plugin of pytest.

The module `treq` of these tests feeds files of bytes to a parser, piece by piece, and compares its requests with the
ones expected. With this plugin the pieces go over a socket, and a request is what the WSGI application gets: its
environ, and its input, which the test reads in its various ways on the thread of the application.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import live
import pytest

HOST = ("HOST", "suite")


class Refused(Exception):
    """The server has refused the bytes, or closed the connection without a complete request."""


class Body:
    """`wsgi.input`, whose methods run on the thread of the application."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve(self) -> None:
        """Runs on the thread of the application until `finish`."""
        while (call := self._calls.get(timeout=4 * live.TIMEOUT)) is not None:
            try:
                self._results.put((call(), None))
            except BaseException as error:
                self._results.put((None, error))

    def finish(self) -> None:
        self._calls.put(None)

    def _call(self, call: Any) -> Any:
        self._calls.put(call)
        value, error = self._results.get(timeout=live.TIMEOUT)
        if error is not None:
            raise error
        return value

    def read(self, *size: int) -> bytes:
        return self._call(lambda: self._source.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._call(lambda: self._source.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        return self._call(lambda: self._source.readlines(*hint))

    def __iter__(self) -> Iterator[bytes]:
        while line := self._call(lambda: next(iter(self._source), b"")):
            yield line


class Request:
    """A request as the application has it."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.body = Body(environ["wsgi.input"])


class RequestParser:
    """The requests of one connection, with the interface of the parser of gunicorn."""

    def __init__(self, _: Any, pieces: Iterable[bytes], __: Any) -> None:
        self._pieces = pieces
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        request = Request(environ)
        self._events.put(request)
        request.body.serve()
        start_response("200 OK", [])
        return [b"ok"]

    def __iter__(self) -> Iterator[Request]:
        live.set_default(self._app, {})
        with socket.create_connection(live.server("wsgi").address, 2 * live.TIMEOUT) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threads = [threading.Thread(target=each, args=(connection,)) for each in (self._send, self._receive)]
            for thread in threads:
                thread.start()
            try:
                yield from self._requests()
            finally:
                for thread in threads:
                    thread.join()

    def _requests(self) -> Iterator[Request]:
        number = 0
        while isinstance(event := self._events.get(timeout=3 * live.TIMEOUT), Request):
            number += 1
            try:
                yield event
                event.body.read()
            except OSError as error:
                raise Refused(str(error)) from error
            finally:
                event.body.finish()
        statuses = re.findall(rb"HTTP/1\.[01] (\d+)", event)
        if number == 0 or len(statuses) < number or any(status >= b"400" for status in statuses):
            raise Refused(event)

    def _send(self, connection: socket.socket) -> None:
        try:
            for piece in self._pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            # The server has refused what came first.
            pass

    def _receive(self, connection: socket.socket) -> None:
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
        except OSError:
            # The server has not read all that was sent.
            pass
        self._events.put(received)


def with_host(data: bytes) -> bytes:
    """The requests with the field that HTTP/1.1 requires, and that most files lack."""
    if re.search(rb"(?im)^host[ \t]*:", data):
        return data
    return re.sub(rb"( HTTP/1\.1\r\n)", rb"\1Host: suite\r\n", data)


def environ_of(fields: list[tuple[str, str]]) -> dict[str, str]:
    """The keys of an environ for these fields."""
    environ: dict[str, str] = {}
    for name, value in fields:
        key = name.replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def same(self: Any, request: Request, sizer: Any, matcher: Any, expected: Any) -> None:
    """Compares a request with the one expected."""
    environ = request.environ
    assert environ["REQUEST_METHOD"] == expected["method"]
    assert environ["QUERY_STRING"] == expected["uri"]["query"]
    path = unquote_to_bytes(expected["uri"]["path"].encode("latin-1")).decode("latin-1")
    assert environ["PATH_INFO"] == path
    assert environ["SERVER_PROTOCOL"] == "HTTP/%d.%d" % expected["version"]
    keys = [key for key in environ if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")]
    fields = {key: environ[key].replace(", ", ",") for key in keys}
    fields = {key: value for key, value in fields.items() if value != ""}
    wanted = {key: value.replace(", ", ",") for key, value in environ_of(expected["headers"]).items() if value != ""}
    if ("HTTP_HOST", HOST[1]) in fields.items():
        del fields["HTTP_HOST"]
    assert fields == wanted
    matcher(request, expected["body"], sizer)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for module in {item.module for item in items if hasattr(item.module, "treq")}:
        treq = module.treq
        treq.RequestParser = RequestParser
        for kind in (treq.request, treq.badrequest):
            if not hasattr(kind, "is_live"):
                kind.is_live = True
                kind.__init__ = initialized(kind.__init__)
        treq.request.same = same
    if items:
        treq.load_py = refusing(treq.load_py)


def initialized(original: Any) -> Any:
    def __init__(self: Any, *args: Any) -> None:
        original(self, *args)
        self.data = with_host(self.data)

    return __init__


def refusing(original: Any) -> Any:
    """Expects `Refused` in the place of the exceptions of gunicorn."""

    def load_py(path: str, **options: Any) -> Any:
        values = original(path, **options)
        return values | {"request": Refused} if "/invalid/" in path else values

    return load_py


@pytest.fixture(autouse=True)
def _one_server() -> Iterator[None]:
    live.server("wsgi")
    yield
