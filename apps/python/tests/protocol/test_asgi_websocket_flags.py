"""The flags of WebSockets."""

from __future__ import annotations

import pytest
from probe import DEADLINE, Probe
from serving import Servers

from .websocket import HANDSHAKE, closed, opened
from .wire import Wire

pytestmark = pytest.mark.gearshift

PING = b"\x89\0"
"""A ping without a payload, as a server sends it."""


def test_a_silent_client_is_sent_a_ping_and_then_closed(serve: Servers, probe: Probe) -> None:
    # Seconds with a fraction, as uvicorn has them.
    server = serve("apps_websocket:app", "--ws-ping-interval=0.05", "--ws-ping-timeout=50ms")
    with Wire(server) as wire:
        wire.request(f"/echo?{probe.query}", fields=HANDSHAKE)
        assert wire.head().status == 101
        frames = wire.exactly(6)
        assert frames[:3] == PING + b"\x88"
        assert int.from_bytes(frames[4:], "big") == 1001
        # No close was received (RFC 6455, 7.1.5).
        assert probe.wait("disconnect")["code"] == 1006


def test_a_silent_client_is_not_closed_without_a_timeout(serve: Servers) -> None:
    server = serve("apps_websocket:app", "--ws-ping-interval=20ms", "--ws-ping-timeout=never")
    with Wire(server) as wire:
        wire.request("/echo", fields=HANDSHAKE)
        assert wire.head().status == 101
        assert wire.exactly(8) == 4 * PING


def test_a_larger_message_closes_with_1009(serve: Servers) -> None:
    server = serve("apps_websocket:app", "--ws-max-size=1k")
    for options in ({}, {"compression": None}):
        with opened(server, "/echo", **options) as websocket:
            websocket.send("x" * 1024)
            assert websocket.recv(DEADLINE) == "x" * 1024
            websocket.send("x" * 1025)
            assert closed(websocket).code == 1009


@pytest.mark.parametrize(("flag", "compresses"), [("true", True), ("false", False), ("False", False)])
def test_compression_can_be_off(serve: Servers, flag: str, compresses: bool) -> None:
    server = serve("apps_websocket:app", f"--ws-per-message-deflate={flag}")
    with opened(server, "/echo") as websocket:
        assert ("permessage-deflate" in websocket.response.headers.get("Sec-WebSocket-Extensions", "")) is compresses
        websocket.send("x" * 1000)
        assert websocket.recv(DEADLINE) == "x" * 1000


@pytest.mark.parametrize("flag", ["--ws-ping-interval=0", "--ws-ping-timeout=soon", "--ws-per-message-deflate=maybe"])
def test_a_wrong_value_is_an_error_of_usage(serve: Servers, flag: str) -> None:
    server = serve.start("apps_websocket:app", flag, status=2)
    assert server.wait() == 2
    assert flag.partition("=")[0] in server.log
