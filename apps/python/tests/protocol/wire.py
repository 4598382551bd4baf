"""A client that sends bytes as they are, and reads responses byte by byte."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

from probe import DEADLINE
from serving import Server


@dataclass
class Response:
    """A response as it was on the wire."""

    version: str
    status: int
    fields: list[tuple[str, str]]
    """Names in lower case, and values, in the order of the wire."""
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list, repr=False)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True
    """Whether the body ended as its framing says."""

    def all(self, name: str) -> list[str]:
        """The values of all fields of a name."""
        return [value for field_name, value in self.fields if field_name == name]

    def get(self, name: str) -> str | None:
        """The value of a field that must not be repeated."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None


class Ended(Exception):
    """The server has ended the connection."""


class Wire:
    """A connection. Closed at the end of a `with` block."""

    def __init__(
        self, server: Server, receive_buffer: int | None = None, trust: ssl.SSLContext | None = None
    ) -> None:
        """`receive_buffer` is the size in bytes of the buffer of the socket; a small one makes a slow reader. With
        `trust`, the connection speaks TLS."""
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(server.address)
        if trust is not None:
            self.socket = trust.wrap_socket(self.socket, server_hostname=server.address[0])
        self.trailers: list[tuple[str, str]] = []
        self._received = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.socket.sendall(data)

    def request(
        self,
        target: str,
        method: str = "GET",
        fields: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        chunks: Iterable[bytes] | None = None,
        version: str = "HTTP/1.1",
    ) -> None:
        """Sends a request with `body` as a whole, or as `chunks`."""
        lines = [f"{method} {target} {version}"]
        if version == "HTTP/1.1":
            lines.append("Host: test")
        lines += [f"{name}: {value}" for name, value in fields]
        if chunks is not None:
            lines.append("Transfer-Encoding: chunked")
        elif body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        if chunks is not None:
            for chunk in chunks:
                self.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.send(b"0\r\n\r\n")

    def exchange(self, target: str, method: str = "GET", **request: object) -> Response:
        """Sends a request and reads its response."""
        self.request(target, method, **request)
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """Reads a response to a request of this method. Raises Ended if there is none."""
        response = self.head()
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return response
        try:
            self._read_body(response)
        except Ended:
            response.complete = False
        return response

    def head(self) -> Response:
        """Reads a head."""
        version, status, *_ = self._line().split(" ", 2)
        return Response(version, int(status), self._fields())

    def chunk(self) -> bytes:
        """Reads a chunk of a chunked body. After the last one, which is empty, `trailers` has the trailers."""
        data = self.exactly(int(self._line().partition(";")[0], 16))
        if data:
            assert self._line() == ""
        else:
            self.trailers = self._fields()
        return data

    def read(self, size: int) -> bytes:
        """Reads 1 to `size` bytes; none if the server has ended the connection."""
        if not self._received:
            try:
                return self.socket.recv(size)
            except ConnectionError:
                return b""
        data, self._received = self._received[:size], self._received[size:]
        return data

    def at_end(self) -> bool:
        """Whether the server ends the connection before it sends another byte."""
        return self.read(1) == b""

    def end_sending(self) -> None:
        """Ends the sending side."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()

    def reset(self) -> None:
        """Closes the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def exactly(self, size: int) -> bytes:
        """Reads `size` bytes. Raises Ended if the connection ends before."""
        data = bytearray()
        while len(data) < size:
            data += self._more(size - len(data))
        return bytes(data)

    def _read_body(self, response: Response) -> None:
        try:
            for piece in self._pieces(response):
                response.pieces.append(piece)
        finally:
            response.body = b"".join(response.pieces)

    def _pieces(self, response: Response) -> Iterator[bytes]:
        if response.get("transfer-encoding") == "chunked":
            while chunk := self.chunk():
                yield chunk
            response.trailers = self.trailers
        elif (length := response.get("content-length")) is not None:
            rest = int(length)
            while rest:
                piece = self._more(rest)
                rest -= len(piece)
                yield piece
        else:
            while piece := self.read(65536):
                yield piece

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self._line():
            name, _, value = line.partition(":")
            fields.append((name.lower(), value.strip()))
        return fields

    def _line(self) -> str:
        while b"\r\n" not in self._received:
            self._received += self._from_socket(65536)
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode("latin-1")

    def _more(self, size: int) -> bytes:
        if data := self.read(size):
            return data
        raise Ended

    def _from_socket(self, size: int) -> bytes:
        try:
            data = self.socket.recv(size)
        except ConnectionError:
            data = b""
        if not data:
            raise Ended
        return data
