"""ASGI, "WebSocket": closes both ways, clients that leave, errors, and back-pressure."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from probe import DEADLINE, Probe, settled, until
from serving import Server, Servers
from websockets.exceptions import InvalidStatus

from .websocket import HANDSHAKE, closed, masked, opened
from .wire import Wire

# Closes


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [("", 1000, ""), ("code=1000", 1000, ""), ("code=4321&reason=b%C3%A9", 4321, "b\xe9"), ("reason=why", 1000, "why")],
)
def test_the_close_of_the_application_reaches_the_client(
    websockets: Server, probe: Probe, query: str, code: int, reason: str
) -> None:
    with opened(websockets, f"/closes?{query}&{probe.query}") as websocket:
        assert websocket.recv(DEADLINE) == "last"
        frame = closed(websocket)
        assert (frame.code, frame.reason) == (code, reason)
    assert probe.wait("websocket.disconnect")
    assert probe.names() == ["error", "websocket.disconnect"]


@pytest.mark.differs(gunicorn="drops the reason")
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "away"), (3000, "x"), (4999, "\u20ac" * 40)])
def test_the_close_of_the_client_reaches_the_application(
    websockets: Server, probe: Probe, code: int, reason: str
) -> None:
    with opened(websockets, f"/echo?{probe.query}") as websocket:
        websocket.send("hello")
        assert websocket.recv(DEADLINE) == "hello"
        websocket.close(code, reason)
        assert websocket.close_code == code
    event = probe.wait("disconnect")
    assert (event["code"], event["reason"] or "") == (code, reason)


def test_a_close_without_a_code_is_1005(websockets: Server, probe: Probe) -> None:
    with Wire(websockets) as wire:
        wire.request(f"/echo?{probe.query}", fields=HANDSHAKE)
        assert wire.head().status == 101
        wire.send(bytes([0x88, 0x80, 1, 2, 3, 4]))  # A masked close without a payload.
        assert probe.wait("disconnect")["code"] == 1005


@pytest.mark.differs(uvicorn="1005")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_without_a_close_is_1006(websockets: Server, probe: Probe, how: str) -> None:
    with Wire(websockets) as wire:
        wire.request(f"/after_the_client?{probe.query}", fields=HANDSHAKE)
        assert wire.head().status == 101
        probe.wait("waiting")
        getattr(wire, how)()
    assert probe.wait("disconnect")["code"] == 1006


@pytest.mark.parametrize("how", ["websocket", "close", "reset"])
def test_sending_to_a_client_that_has_left_raises(websockets: Server, probe: Probe, how: str) -> None:
    target = f"/after_the_client?{probe.query}"
    if how == "websocket":
        with opened(websockets, target):
            probe.wait("waiting")
    else:
        with Wire(websockets) as wire:
            wire.request(target, fields=HANDSHAKE)
            assert wire.head().status == 101
            probe.wait("waiting")
            getattr(wire, how)()
    assert "OSError" in probe.wait("error")["bases"]


@pytest.mark.differs(uvicorn="raises or not, depending on which end closes the socket first")
def test_the_application_may_close_after_the_client(websockets: Server, probe: Probe) -> None:
    with opened(websockets, f"/closes_after_the_client?{probe.query}") as websocket:
        websocket.close(1001)
    assert "bases" not in probe.wait("end")


@pytest.mark.gearshift
def test_a_reset_is_noticed_while_the_application_does_not_receive(serve: Servers, probe: Probe) -> None:
    server = serve("apps_websocket:app", "--ws-ping-interval=50ms")
    with opened(server, "/echo"):
        pass
    before = settled(lambda: sockets(server))
    with Wire(server) as wire:
        wire.request(f"/busy?{probe.query}", fields=HANDSHAKE)
        assert wire.head().status == 101
        probe.wait("waiting")
        wire.send(masked("text") * 100)
        # The queue is full, and the server still pings.
        assert wire.exactly(4) == b"\x89\0\x89\0"
        assert sockets(server) == before + 1
        wire.reset()
    until(lambda: sockets(server) == before, "the connection is given up")
    probe.open("read")
    assert "OSError" in probe.wait("error")["bases"]
    end = probe.wait("websocket.disconnect")
    assert end["code"] == 1006
    assert 0 < end["count"] < 100


@pytest.mark.gearshift
def test_an_application_that_returns_with_unread_messages_delays_no_stop(serve: Servers, probe: Probe) -> None:
    server = serve("apps_websocket:app", "--graceful-timeout=never")
    with Wire(server) as wire:
        wire.request(f"/returns?{probe.query}", fields=HANDSHAKE)
        assert wire.head().status == 101
        wire.send(masked("text") * 100)
        wire.send(b"\x89\x80\0\0\0\0")
        probe.open("return")
        probe.wait("end")
        # The close with 1000. The answer to the ping may come before it.
        frame = wire.exactly(4)
        if frame[:2] == b"\x8a\0":
            frame = frame[2:] + wire.exactly(2)
        assert frame == b"\x88\x02\x03\xe8"
        status, _ = server.stop()
    assert status == 0


def sockets(server: Server) -> int:
    """The number of open sockets of a server."""
    count = 0
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            count += os.readlink(descriptor).startswith("socket:")
        except FileNotFoundError:
            pass
    return count


def test_a_client_that_leaves_during_the_handshake_is_a_disconnect(websockets: Server, probe: Probe) -> None:
    with Wire(websockets) as wire:
        wire.request(f"/slow_accept?{probe.query}", fields=HANDSHAKE)
        probe.wait("websocket.connect")
    probe.open("accept")
    with opened(websockets, "/echo") as websocket:
        websocket.send("still here")
        assert websocket.recv(DEADLINE) == "still here"


def test_a_frame_that_breaks_a_rule_closes_with_1002(websockets: Server, probe: Probe) -> None:
    with Wire(websockets) as wire:
        wire.request(f"/echo?{probe.query}", fields=HANDSHAKE)
        assert wire.head().status == 101
        wire.send(bytes([0x83, 0x80, 1, 2, 3, 4]))  # A reserved opcode.
        frame = wire.read(4)
        assert frame[0] == 0x88 and int.from_bytes(frame[2:4], "big") == 1002
    assert probe.wait("disconnect")


@pytest.mark.gearshift
def test_a_stop_of_the_server_closes_with_1001(serve: Servers, probe: Probe) -> None:
    server = serve("apps_websocket:app")
    with opened(server, f"/echo?{probe.query}") as websocket:
        websocket.send("hello")
        assert websocket.recv(DEADLINE) == "hello"
        status, _ = server.stop()
        assert closed(websocket).code == 1001
    assert status == 0
    assert probe.wait("disconnect")["code"] == 1001


# Errors


@pytest.mark.parametrize("at", ["call", "connect"])
def test_an_error_before_the_accept_is_500_and_in_the_log(websockets: Server, probe: Probe, at: str) -> None:
    message = f"{at} {probe.path}"
    with pytest.raises(InvalidStatus) as raised:
        opened(websockets, f"/fails?at={at}&message={quote(message)}")
    assert raised.value.response.status_code == 500
    websockets.wait_for_log(f"RuntimeError: {message}")


@pytest.mark.differs(uvicorn="ends the connection without a close")
def test_an_error_after_the_accept_is_1011_and_in_the_log(websockets: Server, probe: Probe) -> None:
    message = f"accepted {probe.path}"
    with opened(websockets, f"/fails?at=accepted&message={quote(message)}") as websocket:
        frame = closed(websocket)
    assert frame.code == 1011
    assert message not in frame.reason
    websockets.wait_for_log(f"RuntimeError: {message}")


@pytest.mark.differs(gunicorn="403")
def test_a_return_before_the_accept_is_500(websockets: Server) -> None:
    with pytest.raises(InvalidStatus) as raised:
        opened(websockets, "/fails?at=connect")
    assert raised.value.response.status_code == 500


def test_a_return_after_the_accept_ends_the_connection(websockets: Server) -> None:
    with opened(websockets, "/fails?at=accepted") as websocket:
        frame = closed(websocket)
    assert frame is None or frame.code in (1000, 1011)


ACCEPT = {"type": "websocket.accept"}
TEXT = {"type": "websocket.send", "text": "text"}
WRONG = {
    "send first": ([TEXT], 0),
    "two accepts": ([ACCEPT, ACCEPT], 1),
    "an unknown type": ([ACCEPT, {"type": "websocket.unknown"}], 1),
    "a response": ([ACCEPT, {"type": "http.response.start", "status": 200}], 1),
    "no type": ([ACCEPT, {"text": "text"}], 1),
    "neither text nor bytes": ([ACCEPT, {"type": "websocket.send"}], 1),
    "text of null": ([ACCEPT, {"type": "websocket.send", "text": None}], 1),
    "text that is a number": ([ACCEPT, {"type": "websocket.send", "text": 1}], 1),
    "bytes that are text": ([ACCEPT, {"type": "websocket.send", "bytes": "text"}], 1),
    "a code that is text": ([ACCEPT, {"type": "websocket.close", "code": "1000"}], 1),
}


@pytest.mark.differs(uvicorn="checks only what it needs", gunicorn="checks only what it needs")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_message_raises(websockets: Server, probe: Probe, wrong: str) -> None:
    messages, index = WRONG[wrong]
    target = f"/sends?messages={quote(json.dumps(messages))}&{probe.query}"
    if index == 0:
        with pytest.raises(InvalidStatus):
            opened(websockets, target)
    else:
        with opened(websockets, target) as websocket:
            assert closed(websocket).code == 1011
    until(lambda: probe.events("error"), "an error")
    assert probe.names() == ["sent"] * index + ["error"]


@pytest.mark.gearshift
@pytest.mark.parametrize(("how", "code"), [("accept", 1000), ("code", 4000), ("key", 1000), ("last key", 4000)])
def test_a_message_may_send_while_it_is_read(websockets: Server, probe: Probe, how: str, code: int) -> None:
    with opened(websockets, f"/reenters?how={quote(how)}&{probe.query}") as websocket:
        assert websocket.response.headers["x-test"] == "1"
        assert closed(websocket).code == code
    # The headers of the handshake are read before it is accepted.
    assert probe.names()[0] == "refused"
    assert ("sent" in probe.names()) == (how != "accept")


@pytest.mark.gearshift
def test_a_denial_may_send_while_it_is_read(websockets: Server, probe: Probe) -> None:
    with pytest.raises(InvalidStatus) as raised:
        opened(websockets, f"/reenters?how=denial&{probe.query}")
    response = raised.value.response
    assert (response.status_code, response.body, response.headers["x-test"]) == (401, b"denied", "1")
    assert probe.names() == ["refused"] * 3


# Back-pressure


COUNT = 100
"""The number of messages of 1 MiB."""


def test_a_slow_reader_stops_the_application(websockets: Server, probe: Probe) -> None:
    with opened(websockets, "/echo"):
        pass
    before = websockets.reset_peak_memory()
    with opened(websockets, f"/flood?count={COUNT}&{probe.query}", compression=None, max_queue=1) as websocket:
        assert settled(probe.measure) < COUNT / 2
        assert [len(message) for message in websocket] == [1024 * 1024] * COUNT
    assert websockets.peak_memory() - before < COUNT * 1024 * 1024 / 3


@pytest.mark.differs(gunicorn="closes with 1011")
def test_an_application_that_does_not_receive_stops_the_client(websockets: Server, probe: Probe) -> None:
    sent = 0

    def send() -> None:
        nonlocal sent
        for _ in range(COUNT):
            websocket.send(b"x" * 1024 * 1024)
            sent += 1

    with opened(websockets, "/echo"):
        pass
    before = websockets.reset_peak_memory()
    options = {"compression": None, "ping_interval": None}
    with opened(websockets, f"/slow_reader?count={COUNT}&{probe.query}", **options) as websocket:
        sender = threading.Thread(target=send)
        sender.start()
        assert settled(lambda: sent) < COUNT / 2
        probe.open("read")
        assert websocket.recv(DEADLINE) == str(COUNT * 1024 * 1024)
        sender.join()
    assert websockets.peak_memory() - before < COUNT * 1024 * 1024 / 2
