"""ASGI, "WebSocket": the scope, the handshake, and messages."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from probe import DEADLINE, Probe
from serving import Server, Servers
from websockets.exceptions import InvalidStatus

from .test_asgi_scope import plain
from .websocket import HANDSHAKE, closed, opened
from .wire import Wire

# The scope


def test_the_scope_is_that_of_the_request(websockets: Server) -> None:
    with opened(websockets, "/scope/caf%C3%A9?a=%20", additional_headers={"X-Test": "1"}) as websocket:
        client = websocket.local_address
        described = json.loads(websocket.recv(DEADLINE))
    types = {key: kind for key, (kind, _) in described.items()}
    expected = {"scheme": "str", "path": "str", "raw_path": "bytes", "query_string": "bytes", "root_path": "str"}
    expected |= {"headers": "iterable", "client": "iterable", "server": "iterable", "subprotocols": "iterable"}
    assert {key: types.get(key) for key in expected} == expected
    values = {key: plain(value) for key, value in described.items()}
    assert (values["type"], values["scheme"], values["http_version"]) == ("websocket", "ws", "1.1")
    assert (values["path"], values["raw_path"]) == ("/scope/caf\xe9", "/scope/caf%C3%A9")
    assert (values["query_string"], values["root_path"], values["subprotocols"]) == ("a=%20", "", [])
    assert ["x-test", "1"] in values["headers"] and "method" not in values
    assert (values["client"], values["server"]) == (list(client), list(websockets.address))
    assert values["asgi"]["version"] == "3.0"


def test_a_websocket_has_a_copy_of_the_state(websockets: Server) -> None:
    for _ in range(3):
        with opened(websockets, "/state") as websocket:
            assert websocket.recv(DEADLINE) == "1"


def test_a_request_that_is_no_handshake_is_http(websockets: Server) -> None:
    with Wire(websockets) as wire:
        assert wire.exchange("/echo").body == b"http"
        assert wire.exchange("/echo").body == b"http"


# The handshake


@pytest.mark.parametrize("offered", [None, ["chat"], ["chat", "superchat"]])
def test_the_handshake_is_accepted_with_a_subprotocol_and_fields(websockets: Server, offered: list[str] | None) -> None:
    protocol = offered[-1] if offered else ""
    with opened(websockets, f"/accepts?protocol={protocol}", subprotocols=offered) as websocket:
        assert websocket.subprotocol == (protocol or None)
        assert websocket.response.headers["x-test"] == "1"
        assert websocket.response.headers["set-cookie"] == "a=1"
        assert json.loads(websocket.recv(DEADLINE)) == (offered or [])


def test_the_handshake_waits_for_the_application(websockets: Server, probe: Probe) -> None:
    with Wire(websockets) as wire:
        wire.request(f"/slow_accept?{probe.query}", fields=HANDSHAKE)
        probe.wait("websocket.connect")
        wire.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(DEADLINE)
        probe.open("accept")
        assert wire.head().status == 101


def test_a_close_before_the_accept_is_403(websockets: Server, probe: Probe) -> None:
    with pytest.raises(InvalidStatus) as raised:
        opened(websockets, f"/rejects?{probe.query}")
    assert raised.value.response.status_code == 403
    assert probe.wait("websocket.disconnect")


def test_the_application_may_deny_with_a_response(websockets: Server) -> None:
    with opened(websockets, "/scope") as websocket:
        extensions = plain(json.loads(websocket.recv(DEADLINE)).get("extensions", ["dict", {}]))
    if "websocket.http.response" not in (extensions or {}):
        pytest.skip("no denial response")
    with pytest.raises(InvalidStatus) as raised:
        opened(websockets, "/denies")
    response = raised.value.response
    assert (response.status_code, response.body) == (401, b"log in")
    assert (response.headers["www-authenticate"], response.headers["x-test"]) == ("Basic", "1")


# Messages


@pytest.mark.parametrize(
    "message", ["", "text", "\u20ac \U0001f600", b"", b"\0\xff", "x" * 200_000, b"y" * 200_000, "z" * 1_000_000]
)
@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_are_echoed(websockets: Server, message: str | bytes, compression: str | None) -> None:
    with opened(websockets, "/echo", compression=compression) as websocket:
        for _ in range(2):
            websocket.send(message)
            assert websocket.recv(DEADLINE) == message


def test_a_fragmented_message_is_one_message(websockets: Server) -> None:
    with opened(websockets, "/echo") as websocket:
        websocket.send(iter(["one ", "two ", "three"]))
        assert websocket.recv(DEADLINE) == "one two three"


def test_many_messages_keep_their_order(websockets: Server) -> None:
    with opened(websockets, "/echo", max_queue=None) as websocket:
        for number in range(2000):
            websocket.send(str(number))
        assert [websocket.recv(DEADLINE) for _ in range(2000)] == [str(number) for number in range(2000)]


def test_a_ping_is_answered_by_the_server(websockets: Server) -> None:
    with opened(websockets, "/echo") as websocket:
        assert websocket.ping(b"1").wait(DEADLINE)


def test_the_application_sends_while_it_waits_for_a_message(websockets: Server) -> None:
    with opened(websockets, "/both_ways", max_queue=None) as websocket:
        assert [websocket.recv(DEADLINE) for _ in range(5)] == ["0", "1", "2", "3", "4"]
        websocket.send("stop")
        last = [message for message in websocket]
        assert last[-1] == "stopped"


def test_many_websockets_are_open_at_once(websockets: Server) -> None:
    # Also on a backend that has one thread for requests.
    with ExitStack() as stack:
        clients = [stack.enter_context(opened(websockets, "/echo")) for _ in range(40)]
        for turn in range(2):
            for number, client in enumerate(clients):
                client.send(f"{turn} {number}")
            for number, client in enumerate(clients):
                assert client.recv(DEADLINE) == f"{turn} {number}"
        with Wire(websockets) as wire:
            assert wire.exchange("/").body == b"http"


@pytest.mark.gearshift
def test_a_message_that_is_too_large_is_closed_with_1009(serve: Servers) -> None:
    server = serve("apps_websocket:app", "--ws-max-size=1000")
    with opened(server, "/echo") as websocket:
        websocket.send("x" * 1000)
        assert websocket.recv(DEADLINE) == "x" * 1000
        websocket.send("x" * 1001)
        close = closed(websocket)
    assert close is not None and close.code == 1009


def test_a_message_of_some_megabytes_is_echoed(websockets: Server) -> None:
    message = "x" * 5_000_000
    with opened(websockets, "/echo") as websocket:
        websocket.send(message)
        assert websocket.recv(DEADLINE) == message
