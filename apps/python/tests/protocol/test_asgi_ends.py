"""ASGI: errors, clients that leave, cancellation, back-pressure, and requests that overlap."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from probe import Probe, settled, until
from serving import Server, Servers

from .wire import Ended, Wire

SIZE = 100 * 1024 * 1024
"""The size in bytes of a body that must not be in memory."""

# Errors


@pytest.mark.parametrize("at", ["call", "started"])
def test_an_error_before_the_body_is_500_and_in_the_log(asgi: Server, probe: Probe, at: str) -> None:
    message = f"{at} {probe.path}"
    with Wire(asgi) as wire:
        try:
            response = wire.exchange(f"/fails?at={at}&message={quote(message)}&{probe.query}")
        except Ended:
            assert at == "started"
        else:
            # A server may send the head at once; then it can only cut the response.
            assert response.status == 500 or (at == "started" and not response.complete)
            assert message.encode() not in response.body
    asgi.wait_for_log(f"RuntimeError: {message}")
    log = asgi.log
    traceback = log[log.rindex("Traceback (most recent call last)", 0, log.index(f"RuntimeError: {message}")) :]
    assert "apps_asgi.py" in traceback and "in fails" in traceback


@pytest.mark.parametrize("at", ["later", "length"])
def test_an_error_in_the_middle_cuts_the_response(asgi: Server, probe: Probe, at: str) -> None:
    message = f"{at} {probe.path}"
    with Wire(asgi) as wire:
        wire.request(f"/fails?at={at}&message={quote(message)}&{probe.query}")
        assert wire.head().status == 200
        probe.open("raise")
        # The chunk or the piece of the length, and no end of the body.
        received = b""
        while data := wire.read(100):
            received += data
        assert b"part" in received and not received.endswith(b"0\r\n\r\n")
    asgi.wait_for_log(f"RuntimeError: {message}")


@pytest.mark.differs(gunicorn="does not log it")
def test_an_error_after_the_end_is_in_the_log_after_a_whole_response(asgi: Server, probe: Probe) -> None:
    message = f"ended {probe.path}"
    with Wire(asgi) as wire:
        response = wire.exchange(f"/fails?at=ended&message={quote(message)}&{probe.query}")
        assert (response.status, response.body, response.complete) == (200, b"part", True)
    asgi.wait_for_log(f"RuntimeError: {message}")


@pytest.mark.parametrize("at", ["start", "body", "end"])
def test_an_application_that_returns_too_early_is_500_or_cut(asgi: Server, at: str) -> None:
    with Wire(asgi) as wire:
        try:
            response = wire.exchange(f"/returns?at={at}")
        except Ended:
            assert at != "start"
        else:
            assert response.status == 500 or (at != "start" and not response.complete)


def test_the_server_serves_on_after_errors(asgi: Server, probe: Probe) -> None:
    for _ in range(50):
        with Wire(asgi) as wire:
            assert wire.exchange(f"/fails?at=call&message=again&{probe.query}").status == 500
    with Wire(asgi) as wire:
        assert wire.exchange("/hello").status == 200


# Disconnects


@pytest.mark.differs(gunicorn="has none")
def test_the_message_after_the_response_is_a_disconnect(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        response = wire.exchange(f"/after_the_response?{probe.query}", "POST", body=b"body")
        assert response.body == b"sent"
        assert probe.wait("http.disconnect")


@pytest.mark.differs(uvicorn="send() does nothing", gunicorn="send() does nothing")
@pytest.mark.parametrize("start", ["", "1"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_is_a_disconnect_and_send_raises(asgi: Server, probe: Probe, start: str, how: str) -> None:
    with Wire(asgi) as wire:
        wire.request(f"/waits_for_disconnect?start={start}&{probe.query}")
        probe.wait("waiting")
        if start:
            assert wire.head().status == 200
        getattr(wire, how)()
    assert "OSError" in probe.wait("error")["bases"]
    assert probe.names() == ["waiting", "http.disconnect", "http.disconnect", "error"]


def test_a_client_that_leaves_during_the_body_is_a_disconnect(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        head = f"POST /messages?{probe.query} HTTP/1.1\r\nHost: test\r\nContent-Length: 400000\r\n\r\n"
        wire.send(head.encode() + b"x" * 200_000)
        probe.wait("http.request")
        wire.reset()
    probe.wait("http.disconnect")
    assert all(message["more"] for message in probe.events("http.request"))


def test_a_body_that_breaks_a_rule_is_a_disconnect(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        head = f"POST /messages?{probe.query} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.send(head.encode() + b"30d40\r\n" + b"x" * 200_000 + b"\r\nnothex\r\n")
        probe.wait("http.disconnect")
        assert wire.response().status == 400
    assert all(message["more"] for message in probe.events("http.request"))


@pytest.mark.differs(uvicorn="send() does nothing", gunicorn="send() does nothing")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_sending_to_a_client_that_has_left_raises(asgi: Server, probe: Probe, how: str) -> None:
    with Wire(asgi) as wire:
        wire.request(f"/endless?{probe.query}")
        assert wire.head().status == 200
        getattr(wire, how)()
    assert "OSError" in probe.wait("error")["bases"]


@pytest.mark.differs(uvicorn="send() does nothing", gunicorn="send() does nothing")
def test_a_client_that_leaves_is_no_error_in_the_log(serve: Servers, probe: Probe) -> None:
    server = serve("apps_asgi:app")
    with Wire(server) as wire:
        wire.request(f"/endless?{probe.query}")
        assert wire.head().status == 200
        wire.reset()
    probe.wait("error")
    _, log = server.stop()
    assert "Traceback" not in log


@pytest.mark.differs(uvicorn="send() does nothing", gunicorn="send() does nothing")
def test_a_generator_that_was_left_ends_without_another_request(serve: Servers, probe: Probe) -> None:
    server = serve("apps_asgi:app")
    with Wire(server) as wire:
        wire.request(f"/generates?{probe.query}")
        assert wire.head().status == 200
        wire.reset()
    probe.wait("end")


@pytest.mark.differs(gunicorn="cancels the task")
def test_the_work_after_a_response_is_finished_without_the_client(asgi: Server, probe: Probe) -> None:
    with Wire(asgi) as wire:
        response = wire.exchange(f"/after_work?{probe.query}")
        assert (response.body, response.complete) == (b"sent", True)
    probe.open("work")
    probe.wait("worked")


# Cancellation


@pytest.mark.gearshift
@pytest.mark.parametrize("start", ["", "1"])
def test_the_task_of_a_client_that_has_left_is_cancelled_on_demand(serve: Servers, probe: Probe, start: str) -> None:
    server = serve("apps_asgi:app", "--on-disconnect=cancel")
    with Wire(server) as wire:
        wire.request(f"/sleeps?start={start}&{probe.query}")
        probe.wait("waiting")
        if start:
            assert wire.head().status == 200
    assert probe.wait("error")["type"] == "CancelledError"
    assert "Traceback" not in server.log
    with Wire(server) as wire:
        assert wire.exchange("/hello").status == 200


@pytest.mark.differs(gunicorn="cancels the task")
@pytest.mark.parametrize("start", ["", "1"])
def test_the_task_of_a_client_that_has_left_runs_on_by_default(asgi: Server, probe: Probe, start: str) -> None:
    with Wire(asgi) as wire:
        wire.request(f"/sleeps?start={start}&{probe.query}")
        probe.wait("waiting")
        if start:
            assert wire.head().status == 200
    probe.open("wake")
    probe.wait("woken")
    assert "error" not in probe.names()


# Back-pressure


def test_a_slow_reader_stops_the_application(asgi: Server, probe: Probe) -> None:
    count = SIZE // 65536
    with Wire(asgi, receive_buffer=65536) as wire:
        wire.exchange("/hello")
        before = asgi.reset_peak_memory()
        wire.request(f"/endless?count={count}&{probe.query}")
        assert settled(probe.measure) < count / 2
        response = wire.response()
        assert response.complete and len(response.body) == SIZE
    probe.wait("end")
    assert asgi.peak_memory() - before < SIZE / 4


def test_an_application_that_does_not_receive_stops_the_client(asgi: Server, probe: Probe) -> None:
    sent = 0

    def send() -> None:
        nonlocal sent
        piece = b"x" * 65536
        while sent < SIZE:
            wire.send(piece)
            sent += len(piece)

    with Wire(asgi) as wire:
        wire.exchange("/hello")
        before = asgi.reset_peak_memory()
        wire.send(f"POST /slow_reader?{probe.query} HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        sender = threading.Thread(target=send)
        sender.start()
        probe.wait("called")
        assert settled(lambda: sent) < SIZE / 2
        probe.open("read")
        assert json.loads(wire.response().body) == SIZE
        sender.join()
    assert asgi.peak_memory() - before < SIZE / 4


# Requests that overlap


def test_requests_overlap_unless_the_backend_is_sequential(asgi: Server, backend: str, tmp_path: Path) -> None:
    probes = [Probe(tmp_path / str(number)) for number in range(4)]

    def get(probe: Probe) -> bytes:
        with Wire(asgi) as wire:
            return wire.exchange(f"/meets?{probe.query}").body

    def here() -> list[Probe]:
        return [probe for probe in probes if probe.names() and not probe.is_open("go")]

    with ThreadPoolExecutor(len(probes)) as clients:
        answers = clients.map(get, probes)
        if backend == "sequential":
            for _ in probes:
                until(here, "a request is here")
                assert len(here()) == 1
                here()[0].open("go")
        else:
            until(lambda: len(here()) == len(probes), "all requests are here")
            for probe in probes:
                probe.open("go")
        assert list(answers) == [b"met"] * len(probes)
