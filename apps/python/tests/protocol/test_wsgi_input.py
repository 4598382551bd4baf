"""PEP 3333, section "Input and Error Streams": `wsgi.input` behaves as an `io.BytesIO` with the same body."""

from __future__ import annotations

import io
import json
import threading
from typing import Any
from urllib.parse import quote

import pytest
from probe import Probe, settled
from serving import Server, Servers

from .reading import results
from .wire import Ended, Wire

LINES = b"first\nsecond line\r\n\n" + b"x" * 90 + b"\nlast without an end"
BODIES = {
    "empty": b"",
    "one byte": b"a",
    "newline": b"\n",
    "lines": LINES,
    "large": b"".join(b"%d: %s\n" % (number, b"y" * (number % 977)) for number in range(10_000))[:5_000_000],
    "one long line": b"z" * 300_000,
}
CALLS = {
    "read all": [["read"], ["read"]],
    "read none": [["read", None], ["read"]],
    "read minus one": [["read", -1], ["read", -1]],
    "read zero": [["read", 0], ["read"]],
    "read sizes": [["read", 1], ["read", 7], ["read", 70_000], ["read", 1_000_000], ["read", 10_000_000], ["read", 1]],
    "readline": [["readline"], ["readline"], ["readline"], ["readline"], ["readline"], ["readline"], ["readline"]],
    "readline sizes": [["readline", 3], ["readline", 100_000], ["readline", 0], ["readline", -1], ["readline", 2]],
    "readlines": [["readlines"], ["readlines"], ["read"]],
    "readlines hint": [["hint", 10], ["read"]],
    "iterate": [["iterate"], ["iterate"], ["read"]],
    "mixed": [["readline"], ["read", 4], ["next"], ["readline", 5], ["iterate"], ["read"], ["readline"]],
}


def framing(body: bytes, kind: str) -> dict[str, Any]:
    """The body of a request with a length, or in chunks of growing sizes."""
    if kind == "length":
        return {"body": body}
    chunks, start, size = [], 0, 1
    while start < len(body):
        chunks.append(body[start : start + size])
        start, size = start + size, min(size * 3, 100_000)
    return {"chunks": chunks}


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("body", BODIES)
def test_the_stream_reads_as_a_file(wsgi: Server, body: str, kind: str, calls: str) -> None:
    script = [*CALLS[calls], ["read"]]
    target = "/reads?calls=" + quote(json.dumps(script))
    with Wire(wsgi) as wire:
        response = wire.exchange(target, "POST", **framing(BODIES[body], kind))
        assert response.status == 200, wsgi.log
        assert json.loads(response.body) == results(io.BytesIO(BODIES[body]), script)
        # The connection is in step: the next request finds its own body.
        assert json.loads(wire.exchange(target, "POST", body=b"").body) == results(io.BytesIO(b""), script)


def test_a_request_without_a_body_is_at_its_end(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        calls = [["read"], ["read", 10], ["readline"], ["readlines"], ["iterate"]]
        response = wire.exchange("/reads?calls=" + quote(json.dumps(calls)))
        assert json.loads(response.body) == results(io.BytesIO(b""), calls)


@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_a_body_that_is_not_read_does_not_disturb_the_next_request(wsgi: Server, kind: str, size: int) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange("/hello", "POST", **framing(b"GET /" * (size // 5), kind))
        assert (response.status, response.body) == (200, b"Hello, World!\n")
        try:
            assert wire.exchange("/hello").body == b"Hello, World!\n"
        except (Ended, ConnectionError):
            pass  # The server may close the connection instead.


@pytest.mark.differs(waitress="buffers the body")
@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_the_first_part_is_read_before_the_last_one_is_sent(wsgi: Server, probe: Probe, kind: str) -> None:
    part = b"x" * 200_000
    with Wire(wsgi) as wire:
        head = f"POST /pieces?size=100000&{probe.query} HTTP/1.1\r\nHost: test\r\n"
        if kind == "length":
            wire.send(head.encode() + b"Content-Length: 400000\r\n\r\n" + part)
        else:
            wire.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n" + part + b"\r\n")
        probe.wait("piece")
        assert "end" not in probe.names()
        wire.send(part if kind == "length" else b"30d40\r\n" + part + b"\r\n0\r\n\r\n")
        assert wire.response().status == 200
    assert sum(piece["size"] for piece in probe.events("piece")) == 400_000


BROKEN = {
    "length": (b"Content-Length: 400000\r\n\r\n", b""),
    "chunk": (b"Transfer-Encoding: chunked\r\n\r\n61a80\r\n", b""),
    "last chunk": (b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n", b"\r\n"),
    "bad chunk": (b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n", b"\r\nnothex\r\n"),
}


@pytest.mark.differs(
    gunicorn="ends the stream as if the body were whole",
    waitress="does not call the application",
)
@pytest.mark.parametrize("how", BROKEN)
def test_reading_a_body_that_breaks_off_raises(wsgi: Server, probe: Probe, how: str) -> None:
    head, rest = BROKEN[how]
    with Wire(wsgi) as wire:
        wire.send(f"POST /pieces?size=100000&{probe.query} HTTP/1.1\r\nHost: test\r\n".encode() + head)
        wire.send(b"x" * 200_000 + rest)
        wire.end_sending()
        assert "OSError" in probe.wait("error")["bases"]
        assert "end" not in probe.names()
        try:
            assert wire.response().status >= 400
        except Ended:
            pass


@pytest.mark.differs(gunicorn="ends the stream as if the body were whole", waitress="buffers")
def test_reading_raises_when_the_client_has_left(wsgi: Server, probe: Probe) -> None:
    with Wire(wsgi) as wire:
        head = f"POST /pieces?size=100000&{probe.query} HTTP/1.1\r\nHost: test\r\nContent-Length: 400000\r\n\r\n"
        wire.send(head.encode() + b"x" * 200_000)
        probe.wait("piece")
        wire.reset()
    assert "OSError" in probe.wait("error")["bases"]


def test_a_client_that_expects_100_continue_gets_it_when_the_body_is_read(wsgi: Server) -> None:
    target = "/reads?calls=" + quote(json.dumps([["read"]]))
    with Wire(wsgi) as wire:
        wire.send(f"POST {target} HTTP/1.1\r\nHost: test\r\n".encode())
        wire.send(b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert wire.head().status == 100
        wire.send(b"body")
        assert json.loads(wire.response().body) == ["body"]


@pytest.mark.differs(waitress="buffers the body in a file")
def test_an_application_that_does_not_read_stops_the_client(serve: Servers, probe: Probe) -> None:
    size = 100 * 1024 * 1024
    server = serve("apps_wsgi:app", interface="wsgi")
    sent = 0

    def send() -> None:
        nonlocal sent
        piece = b"x" * 65536
        while sent < size:
            wire.send(piece)
            sent += len(piece)

    with Wire(server) as wire:
        wire.exchange("/hello")
        before = server.reset_peak_memory()
        wire.send(f"POST /slow_reader?{probe.query} HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n".encode())
        sender = threading.Thread(target=send)
        sender.start()
        probe.wait("called")
        assert settled(lambda: sent) < size / 2
        probe.open("read")
        assert json.loads(wire.response().body) == size
        sender.join()
    assert server.peak_memory() - before < size / 4
