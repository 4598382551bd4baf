"""ASGI, "Request" and "Response": the messages of a request, and how those of a response reach the client."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

import pytest
from probe import Probe, until
from serving import Server, Servers

from .wire import Ended, Response, Wire

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"body"}
MORE = {"type": "http.response.body", "body": b"more", "more_body": True}
LAST = {"type": "http.response.body"}


def sends(wire: Wire, probe: Probe, messages: list[Any], method: str = "GET", **request: Any) -> Response:
    """The response to messages."""
    catch = request.pop("catch", "")
    return wire.exchange(f"/sends?catch={catch}&messages={quote(repr(messages))}&{probe.query}", method, **request)


def in_step(wire: Wire) -> None:
    """Checks that the connection answers another request, or has ended in order."""
    try:
        response = wire.exchange("/hello")
    except (Ended, ConnectionError):
        return
    assert (response.status, response.body) == (200, b"Hello, World!\n")


# The body of a request


@pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 70_000, 5_000_000])
@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_the_body_arrives(asgi: Server, size: int, kind: str) -> None:
    body = b"".join(b"%07d," % number for number in range(size // 8 + 1))[:size]
    pieces = [body[start : start + 30_011] for start in range(0, size, 30_011)]
    with Wire(asgi) as wire:
        for _ in range(2):
            response = wire.exchange("/digest", "POST", **({"body": body} if kind == "length" else {"chunks": pieces}))
            assert response.status == 200, response
            found = json.loads(response.body)
            assert (found["size"], found["sha256"]) == (size, hashlib.sha256(body).hexdigest())
            assert found["kinds"] == [["bytes", "bool"]]
            assert size < 1_000_000 or found["messages"] > 4


def test_a_request_without_a_body_has_one_message(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        assert wire.exchange(f"/messages?{probe.query}").status == 200
    assert probe.events() == [{"event": "http.request", "size": 0, "more": False}]


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_the_first_part_is_received_before_the_last_one_is_sent(asgi: Server, probe: Probe, kind: str) -> None:
    part = b"x" * 200_000
    with Wire(asgi) as wire:
        head = f"POST /messages?{probe.query} HTTP/1.1\r\nHost: test\r\n"
        if kind == "length":
            wire.send(head.encode() + b"Content-Length: 400000\r\n\r\n" + part)
        else:
            wire.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n" + part + b"\r\n")
        probe.wait("http.request")
        assert all(message["more"] for message in probe.events())
        wire.send(part if kind == "length" else b"30d40\r\n" + part + b"\r\n0\r\n\r\n")
        assert wire.response().status == 200
    assert sum(message["size"] for message in probe.events()) == 400_000


def test_a_client_that_expects_100_continue_gets_it_when_the_body_is_received(asgi: Server) -> None:
    with Wire(asgi) as wire:
        wire.send(b"POST /digest HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert wire.head().status == 100
        wire.send(b"body")
        assert json.loads(wire.response().body)["size"] == 4


@pytest.mark.differs(gunicorn="may close the connection while the client sends")
@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_a_body_that_is_not_received_does_not_disturb_the_next_request(asgi: Server, kind: str, size: int) -> None:
    body = b"GET /" * (size // 5)
    with Wire(asgi) as wire:
        response = wire.exchange("/hello", "POST", **({"body": body} if kind == "length" else {"chunks": [body]}))
        assert (response.status, response.body) == (200, b"Hello, World!\n")
        in_step(wire)


def test_a_body_is_sent_back_while_it_comes(asgi: Server) -> None:
    with Wire(asgi) as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            wire.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        head = wire.head()
        assert (head.status, head.get("transfer-encoding")) == (200, "chunked")
        size = 0
        while size < 500_000:
            size += len(wire.chunk())
        wire.send(b"4\r\nlast\r\n0\r\n\r\n")
        rest = b""
        while chunk := wire.chunk():
            rest += chunk
        assert rest == b"last"
        in_step(wire)


# The response


def test_status_and_fields_arrive(asgi: Server, probe: Probe) -> None:
    fields = [(b"set-cookie", b"a=1"), (b"x-latin", b"caf\xe9"), (b"set-cookie", b"b=2"), (b"content-length", b"4")]
    with Wire(asgi) as wire:
        response = sends(wire, probe, [{**START, "status": 418, "headers": fields}, BODY])
    assert (response.status, response.body) == (418, b"body")
    assert response.all("set-cookie") == ["a=1", "b=2"]
    assert response.get("x-latin") == "caf\xe9"
    assert response.get("content-length") == "4" and response.get("transfer-encoding") is None
    assert response.get("date") is not None


MESSAGES = {
    "no headers": ([{"type": "http.response.start", "status": 200}, BODY], b"body"),
    "lists as fields": ([{**START, "headers": [[b"x-test", b"1"]]}, BODY], b"body"),
    "a tuple of fields": ([{**START, "headers": ((b"x-test", b"1"),)}, BODY], b"body"),
    "no body": ([START, LAST], b""),
    "an empty body": ([START, {**LAST, "body": b"", "more_body": False}], b""),
    "two parts": ([START, MORE, BODY], b"morebody"),
    "an empty end": ([START, MORE, MORE, LAST], b"moremore"),
    "empty parts": ([START, {**MORE, "body": b""}, MORE, {**MORE, "body": b""}, LAST], b"more"),
    "unknown keys": ([{**START, "x": 1}, {**BODY, "y": 2}], b"body"),
}


@pytest.mark.differs(uvicorn="sends chunks to a client of HTTP/1.0")
@pytest.mark.parametrize("messages", MESSAGES)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_messages_become_a_response(asgi: Server, probe: Probe, messages: str, version: str) -> None:
    sent, body = MESSAGES[messages]
    with Wire(asgi) as wire:
        response = sends(wire, probe, sent, version=version)
        assert (response.status, response.body, response.complete) == (200, body, True)
        if version == "HTTP/1.0":
            assert response.get("transfer-encoding") is None
        in_step(wire)
    until(lambda: probe.names() == ["sent"] * len(sent), "all messages are sent")


def test_a_message_arrives_before_the_next_one_is_sent(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        wire.request(f"/gated?{probe.query}")
        assert wire.head().status == 200
        for name in ["one", "two", "three"]:
            if name != "one":
                assert name not in probe.names()
                probe.open(name)
            assert wire.chunk() == name.encode()
        assert wire.chunk() == b""
        probe.wait("end")
        in_step(wire)


def test_many_large_messages_arrive(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        response = wire.exchange(f"/endless?count=160&{probe.query}")
        assert response.complete and response.body == b"x" * 65536 * 160
        in_step(wire)


@pytest.mark.parametrize("messages", ["two parts", "no body"])
@pytest.mark.parametrize("length", [None, b"8"])
def test_head_has_the_fields_and_no_body(asgi: Server, probe: Probe, messages: str, length: bytes | None) -> None:
    sent = [dict(message) for message in MESSAGES[messages][0]]
    sent[0]["headers"] = [(b"x-test", b"1")] + ([(b"content-length", length)] if length else [])
    with Wire(asgi) as wire:
        response = sends(wire, probe, sent, "HEAD")
        assert (response.status, response.get("x-test")) == (200, "1")
        if length:
            assert response.get("content-length") == "8"
        in_step(wire)
    until(lambda: probe.names() == ["sent"] * len(sent), "all messages are sent")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [b"", b"ignored"])
def test_a_status_without_a_body(asgi: Server, probe: Probe, status: int, body: bytes) -> None:
    with Wire(asgi) as wire:
        response = sends(wire, probe, [{**START, "status": status, "headers": []}, {**BODY, "body": body}])
        # The body is a fault of the application: it is left out, or it ends the connection.
        assert response.status == status or body
        assert response.get("transfer-encoding") is None
        in_step(wire)


@pytest.mark.differs(uvicorn="sends them twice")
def test_a_date_and_a_server_of_the_application_are_kept(asgi: Server, probe: Probe) -> None:
    fields = [(b"date", b"Sat, 01 Jan 2000 00:00:00 GMT"), (b"server", b"test")]
    with Wire(asgi) as wire:
        response = sends(wire, probe, [{**START, "headers": fields}, BODY])
    assert (response.get("date"), response.get("server")) == ("Sat, 01 Jan 2000 00:00:00 GMT", "test")


def test_a_transfer_encoding_of_the_application_is_ignored(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        response = sends(wire, probe, [{**START, "headers": [(b"transfer-encoding", b"chunked")]}, BODY])
        assert (response.status, response.body, response.complete) == (200, b"body", True)
        in_step(wire)


# Wrong messages


WRONG = {
    "body first": ([BODY], 0),
    "two starts": ([START, START], 1),
    "a start in the body": ([START, MORE, START], 2),
    "an unknown type": ([{"type": "http.response.unknown"}], 0),
    "a type of WebSocket": ([{"type": "websocket.accept"}], 0),
    "no type": ([{"status": 200}], 0),
    "no status": ([{"type": "http.response.start"}], 0),
    "a status that is text": ([{**START, "status": "200"}], 0),
    "a status of none": ([{**START, "status": None}], 0),
    "a status too large": ([{**START, "status": 100_000}], 0),
    "a field that is text": ([{**START, "headers": [("x-test", "1")]}], 0),
    "a value that is text": ([{**START, "headers": [(b"x-test", "1")]}], 0),
    "a field without a value": ([{**START, "headers": [(b"x-test",)]}], 0),
    "a name with a space": ([{**START, "headers": [(b"x test", b"1")]}], 0),
    "a name with a line end": ([{**START, "headers": [(b"x-test\r\nx-other", b"1")]}], 0),
    "a value with a line end": ([{**START, "headers": [(b"x-test", b"1\r\nx-other: 2")]}], 0),
    "a value with a zero": ([{**START, "headers": [(b"x-test", b"1\0")]}], 0),
    "a body that is text": ([START, {**BODY, "body": "text"}], 1),
    "a body that is a number": ([START, {**BODY, "body": 4}], 1),
    "a message that is no dict": ([[1, 2]], 0),
}


@pytest.mark.differs(uvicorn="checks only what it needs", gunicorn="checks only what it needs")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_message_raises(asgi: Server, probe: Probe, wrong: str) -> None:
    messages, index = WRONG[wrong]
    with Wire(asgi) as wire:
        response = sends(wire, probe, messages)
        assert response.status == 500 or not response.complete
        in_step(wire)
    assert probe.names() == ["sent"] * index + ["error"]
    assert probe.events("error")[0]["index"] == index
    assert "OSError" not in probe.events("error")[0]["bases"]


@pytest.mark.differs(uvicorn="checks only what it needs", gunicorn="checks only what it needs")
@pytest.mark.parametrize("wrong", [name for name, (_, index) in WRONG.items() if index == 0])
def test_the_application_can_respond_after_a_wrong_message(asgi: Server, probe: Probe, wrong: str) -> None:
    with Wire(asgi) as wire:
        response = sends(wire, probe, WRONG[wrong][0], catch=1)
        assert (response.status, response.body) == (200, b"caught")
        in_step(wire)


@pytest.mark.parametrize("message", [START, BODY, LAST])
def test_a_message_after_the_end_does_not_reach_the_client(asgi: Server, probe: Probe, message: dict[str, Any]) -> None:
    # The specification: "any further messages on the channel will be ignored". A server may raise.
    with Wire(asgi) as wire:
        response = sends(wire, probe, [START, BODY, message])
        assert (response.status, response.body, response.complete) == (200, b"body", True)
        in_step(wire)
    until(lambda: len(probe.names()) == 3, "the last message is sent")


LENGTHS = {
    "whole, too long": (6, [{**BODY, "body": b"0123456789"}]),
    "whole, too short": (20, [BODY]),
    "parts, too long": (6, [MORE, MORE, LAST]),
    "parts, too short": (20, [MORE, LAST]),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_a_body_with_another_length_than_its_field_is_corrected_or_cut(asgi: Server, probe: Probe, case: str) -> None:
    length, messages = LENGTHS[case]
    body = b"".join(message.get("body", b"") for message in messages)
    start = {**START, "headers": [(b"content-length", str(length).encode())]}
    with Wire(asgi) as wire:
        response = sends(wire, probe, [start, *messages])
        if response.status == 200 and response.complete:
            assert response.get("content-length") == str(len(response.body))
            assert response.body in (body, body[:length])
        else:
            assert response.status == 500 or body.startswith(response.body)
        in_step(wire)


@pytest.mark.gearshift
@pytest.mark.parametrize(("length", "relation"), [(6, "longer"), (20, "shorter"), (0, "longer")])
def test_a_whole_body_with_another_length_than_its_field_raises(
    asgi: Server, probe: Probe, length: int, relation: str
) -> None:
    start = {**START, "headers": [(b"content-length", str(length).encode())]}
    with Wire(asgi) as wire:
        response = sends(wire, probe, [start, {**BODY, "body": b"0123456789"}])
        assert (response.status, response.complete) == (500, True)
        in_step(wire)
    error = probe.wait("error")
    assert error["index"] == 1 and "RuntimeError" in error["bases"]
    asgi.wait_for_log(f"RuntimeError: the body of the response is {relation} than its Content-Length")


@pytest.mark.gearshift
@pytest.mark.parametrize("case", ["parts, too long", "parts, too short"])
def test_a_streamed_body_with_another_length_than_its_field_is_in_the_log(
    serve: Servers, probe: Probe, case: str
) -> None:
    server = serve("apps_asgi:app")
    length, messages = LENGTHS[case]
    start = {**START, "headers": [(b"content-length", str(length).encode())]}
    with Wire(server) as wire:
        assert not sends(wire, probe, [start, *messages]).complete
    server.wait_for_log("the response body is not as long as its head says")


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_may_have_the_length_of_another(asgi: Server, probe: Probe, status: int) -> None:
    start = {**START, "status": status, "headers": [(b"content-length", b"8")] if status == 304 else []}
    with Wire(asgi) as wire:
        response = sends(wire, probe, [start, {**BODY, "body": b""}])
        assert (response.status, response.body) == (status, b"")
        in_step(wire)


# Extensions


def extensions(server: Server) -> set[str]:
    """The names of the extensions that the server has."""
    with Wire(server) as wire:
        described = json.loads(wire.exchange("/scope").body)["keys"].get("extensions", ["dict", {}])
    return set(described[1] or {})


def test_trailers_are_sent_to_a_client_that_takes_them(asgi: Server, probe: Probe) -> None:
    if "http.response.trailers" not in extensions(asgi):
        pytest.skip("no trailers")
    start = {**START, "trailers": True, "headers": [(b"trailer", b"x-digest, x-more")]}
    first = {"type": "http.response.trailers", "headers": [(b"x-digest", b"abc")], "more_trailers": True}
    last = {"type": "http.response.trailers", "headers": [(b"x-more", b"1")]}
    for fields, trailers in [([("TE", "trailers")], [("x-digest", "abc"), ("x-more", "1")]), ([], [])]:
        with Wire(asgi) as wire:
            response = sends(wire, probe, [start, MORE, BODY, first, last], fields=fields)
            assert (response.body, response.complete) == (b"morebody", True)
            assert response.trailers == trailers
            in_step(wire)


@pytest.mark.differs(uvicorn="does not wait for them")
def test_a_response_without_its_trailers_is_cut(asgi: Server, probe: Probe) -> None:
    if "http.response.trailers" not in extensions(asgi):
        pytest.skip("no trailers")
    with Wire(asgi) as wire:
        response = sends(wire, probe, [{**START, "trailers": True}, BODY], fields=[("TE", "trailers")])
        assert not response.complete or response.status == 500


def test_a_file_is_sent_by_its_path(asgi: Server) -> None:
    if "http.response.pathsend" not in extensions(asgi):
        pytest.skip("no pathsend")
    with Wire(asgi) as wire:
        response = wire.exchange("/path_send")
        assert (response.status, response.body) == (200, b"line\n" * 50_000)
        assert wire.exchange("/path_send", "HEAD").get("content-length") == "250000"
        in_step(wire)
