"""PEP 3333: `start_response`, `write`, the iterable, and how its items reach the client."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from probe import Probe, settled
from serving import Server

from .files import file_content
from .wire import Ended, Response, Wire


def in_step(wire: Wire) -> None:
    """Checks that the connection answers another request, or has ended in order."""
    try:
        response = wire.exchange("/hello")
    except (Ended, ConnectionError):
        return
    assert (response.status, response.body) == (200, b"Hello, World!\n")


def body(wire: Wire, probe: Probe, items: list[bytes], method: str = "GET", **request: Any) -> Response:
    """The response of the view `body`."""
    length = request.pop("length", "")
    return wire.exchange(f"/body?items={quote(repr(items))}&length={length}&{probe.query}", method, **request)


# start_response


def test_status_and_fields_arrive(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange("/fields")
    assert (response.status, response.body) == (200, b"ok")
    assert response.all("set-cookie") == ["a=1", "b=2"]
    assert response.get("x-latin") == "caf\xe9"
    assert response.get("content-length") == "2"


@pytest.mark.differs(gunicorn="replaces them")
def test_a_date_and_a_server_of_the_application_are_kept(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange("/fields")
    assert response.get("date") == "Sat, 01 Jan 2000 00:00:00 GMT"
    assert response.get("server") == "test"


def test_the_server_adds_what_http_requires(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        assert wire.exchange("/hello").get("date") is not None


@pytest.mark.parametrize("line", ["200 OK", "201 Created", "204 No Content", "304 Not Modified", "404 NOT FOUND"])
def test_a_status_without_a_body(wsgi: Server, line: str) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/status?line={quote(line)}")
        assert (response.status, response.body, response.complete) == (int(line[:3]), b"", True)
        in_step(wire)


BAD_STATUS = [200, None, b"200 OK", "", "OK", "abc OK", "20 OK", "2000 OK", "200 OK\r\nX-Test: 1", "200 OK\n", "200 \0"]


@pytest.mark.differs(waitress="lacks some checks")
@pytest.mark.parametrize("status", BAD_STATUS)
def test_an_invalid_status_raises(wsgi: Server, probe: Probe, status: object) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/head?start={quote(repr((status, [])))}&{probe.query}")
    assert probe.names() == ["error"]
    assert response.status == 500


BAD_FIELDS = [
    ("X-Test", "a\r\nX-Other: b"),
    ("X-Test", "a\nb"),
    ("X-Test", "a\rb"),
    ("X-Test", "a\0b"),
    ("X-Test", "\u20ac"),
    ("X-Test", 1),
    ("X-Test", None),
    ("X-Test", b"bytes"),
    ("", "value"),
    ("X Test", "value"),
    ("X-Test:", "value"),
    ("X-Test\r\nX-Other", "value"),
    ("X-T\xe9st", "value"),
    (b"X-Test", "value"),
    (1, "value"),
    ("X-Test",),
    "X-Test",
]


@pytest.mark.differs(waitress="lacks some checks")
@pytest.mark.parametrize("field", BAD_FIELDS)
def test_an_invalid_field_raises(wsgi: Server, probe: Probe, field: object) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/head?start={quote(repr(('200 OK', [field])))}&{probe.query}")
    assert probe.names() == ["error"]
    assert response.status == 500


HOP_BY_HOP = [
    ("Connection", "x-test"),
    ("Keep-Alive", "timeout=99"),
    ("Transfer-Encoding", "x-test"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "x-test"),
]


@pytest.mark.parametrize("field", HOP_BY_HOP)
def test_a_field_of_the_connection_raises_or_is_dropped(wsgi: Server, probe: Probe, field: tuple[str, str]) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/head?start={quote(repr(('200 OK', [field])))}&{probe.query}")
        if probe.names() == ["error"]:
            assert response.status == 500
        else:
            assert (response.status, response.body, response.complete) == (200, b"body", True)
        assert not {"x-test", "timeout=99"} & {value for _, value in response.fields}
        in_step(wire)


@pytest.mark.differs(gunicorn="sends the head with an empty item")
def test_the_head_may_be_replaced_before_it_is_sent(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange("/replaced_head")
        assert (response.status, response.body) == (503, b"error page")
        assert (response.get("x-first"), response.get("x-second")) == (None, "2")
        in_step(wire)


def test_the_original_error_is_raised_when_the_head_was_sent(wsgi: Server, probe: Probe) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/late_head?{probe.query}")
        # The response is cut. If nothing has reached the client yet, it may be replaced.
        assert response.status == 500 or (response.body in (b"", b"part") and not response.complete)
        assert b"never" not in response.body
    assert probe.events() == [{"event": "error", "type": "ValueError", "same": True}]
    wsgi.wait_for_log("ValueError: the original error")


def test_a_second_head_without_exc_info_raises(wsgi: Server, probe: Probe) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/two_heads?{probe.query}")
        assert (response.status, response.body) == (200, b"the first head")
    assert probe.names() == ["error"]


def test_the_head_may_come_with_the_first_item(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        assert wire.exchange("/lazy_start").body == b"late"


def test_a_response_without_a_head_is_500(wsgi: Server, probe: Probe) -> None:
    with Wire(wsgi) as wire:
        assert wire.exchange(f"/no_head?{probe.query}").status == 500
        in_step(wire)
    assert probe.names().count("close") == 1


# The body


def test_what_is_written_arrives_before_the_next_piece_is_made(wsgi: Server, probe: Probe, backend: str) -> None:
    if backend in {"sequential", "threadpool"}:
        # There the data of write() is sent when the application returns.
        probe.open("two")
        with Wire(wsgi) as wire:
            assert wire.exchange(f"/writes?{probe.query}").body == b"one,two,three"
        return
    with Wire(wsgi) as wire:
        wire.request(f"/writes?{probe.query}")
        assert wire.head().status == 200
        assert wire.chunk() == b"one,"
        probe.open("two")
        assert [wire.chunk(), wire.chunk(), wire.chunk()] == [b"two,", b"three", b""]


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_an_item_arrives_before_the_next_one_is_made(wsgi: Server, probe: Probe, version: str) -> None:
    with Wire(wsgi) as wire:
        wire.request(f"/gated?{probe.query}", version=version)
        assert wire.head().status == 200
        for name in ["one", "two", "three"]:
            if name != "one":
                assert name not in probe.names()
                probe.open(name)
            assert (wire.chunk() if version == "HTTP/1.1" else wire.read(100)) == name.encode()
        if version == "HTTP/1.1":
            assert wire.chunk() == b""
            in_step(wire)
        else:
            assert wire.at_end()
    assert probe.wait("close")


@pytest.mark.parametrize("items", [[], [b""], [b"", b""], [b"one"], [b"one", b"", b"two"], [b"x" * 300] * 5])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_items_are_joined(wsgi: Server, probe: Probe, items: list[bytes], version: str) -> None:
    with Wire(wsgi) as wire:
        response = body(wire, probe, items, version=version)
        assert (response.status, response.body, response.complete) == (200, b"".join(items), True)
        if version == "HTTP/1.0":
            assert response.get("transfer-encoding") is None
        in_step(wire)
    probe.wait("close")


def test_many_large_items_arrive(wsgi: Server, probe: Probe) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/endless?count=160&{probe.query}")
        assert response.complete and response.body == b"x" * 65536 * 160
        in_step(wire)


@pytest.mark.parametrize("items", [[b"0123456789"], [b"01", b"2345", b"6789"], [b"0123", b"456789"]])
def test_no_more_than_the_content_length_is_sent(wsgi: Server, probe: Probe, items: list[bytes]) -> None:
    with Wire(wsgi) as wire:
        response = body(wire, probe, items, length=4)
        assert (response.status, response.get("content-length"), response.body) == (200, "4", b"0123")
        in_step(wire)
    probe.wait("close")


@pytest.mark.parametrize("items", [[], [b"0123456789"], [b"01", b"2345", b"6789"]])
def test_a_body_shorter_than_its_content_length_ends_the_connection(
    wsgi: Server, probe: Probe, items: list[bytes]
) -> None:
    with Wire(wsgi) as wire:
        response = body(wire, probe, items, length=20)
        # A server that sees the end before it sends the head may also answer 500.
        assert not response.complete or response.status == 500
        if not response.complete:
            assert b"".join(items).startswith(response.body)
    probe.wait("close")


@pytest.mark.parametrize("length", [0, 10, 20])
def test_items_with_their_content_length(wsgi: Server, probe: Probe, length: int) -> None:
    with Wire(wsgi) as wire:
        for _ in range(2):
            response = body(wire, probe, [b"x" * 10] * (length // 10), length=length)
            assert (response.get("content-length"), response.body) == (str(length), b"x" * length)
            assert response.get("transfer-encoding") is None


@pytest.mark.differs(waitress="sends a body without a length")
@pytest.mark.parametrize("length", ["", 10])
@pytest.mark.parametrize("items", [[], [b"0123456789"], [b"01234", b"56789"]])
def test_head_has_the_fields_and_no_body(wsgi: Server, probe: Probe, items: list[bytes], length: str | int) -> None:
    with Wire(wsgi) as wire:
        response = body(wire, probe, items, "HEAD", length=length)
        assert (response.status, response.get("content-type")) == (200, "text/plain")
        if length:
            assert response.get("content-length") == "10"
        in_step(wire)
    probe.wait("close")


@pytest.mark.differs(waitress="buffers up to 16 MiB, and more")
def test_a_slow_reader_stops_the_application(wsgi: Server, probe: Probe) -> None:
    count = 1600  # 100 MiB
    with Wire(wsgi, receive_buffer=65536) as wire:
        wire.exchange("/hello")
        before = wsgi.reset_peak_memory()
        wire.request(f"/endless?count={count}&{probe.query}")
        assert settled(probe.measure) < count / 2
        response = wire.response()
        assert response.complete and len(response.body) == count * 65536
    assert wsgi.peak_memory() - before < 25 * 1024 * 1024


# Files


@pytest.mark.parametrize("kind", ["memory", "disk", "read"])
@pytest.mark.parametrize("block", ["", "1"])
@pytest.mark.parametrize("length", ["", "1000", "200000"])
@pytest.mark.parametrize("through", ["", "1"])
def test_a_file_is_sent(wsgi: Server, probe: Probe, kind: str, block: str, length: str, through: str) -> None:
    target = f"/file?kind={kind}&block={block}&length={length}&through={through}&{probe.query}"
    content = file_content().upper() if through else file_content()
    with Wire(wsgi) as wire:
        response = wire.exchange(target)
        assert (response.status, response.body) == (200, content[: int(length or 200_000)])
        if length:
            assert response.get("content-length") == length
        in_step(wire)
    if kind == "memory":
        probe.wait("close")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_file_is_sent_from_its_position(wsgi: Server, probe: Probe, kind: str) -> None:
    with Wire(wsgi) as wire:
        assert wire.exchange(f"/file?kind={kind}&skip=150000&{probe.query}").body == file_content()[150_000:]
        response = wire.exchange(f"/file?kind={kind}&skip=150000&length=100&{probe.query}")
        assert response.body == file_content()[150_000:150_100]
        in_step(wire)


@pytest.mark.differs(waitress="sends the file")
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_head_of_a_file_has_no_body(wsgi: Server, probe: Probe, kind: str) -> None:
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/file?kind={kind}&length=200000&{probe.query}", "HEAD")
        assert (response.status, response.get("content-length")) == (200, "200000")
        in_step(wire)
    if kind == "memory":
        probe.wait("close")
