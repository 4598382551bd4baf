"""PEP 3333: errors, `close`, clients that leave, threads, the log, and the validator of the standard library."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from probe import Probe, until
from serving import Server, Servers

from .wire import Ended, Wire

# Errors


@pytest.mark.parametrize("at", ["call", "started", "first"])
def test_an_error_before_the_first_item_is_500_and_in_the_log(wsgi: Server, probe: Probe, at: str) -> None:
    message = f"{at} {probe.path}"
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/fails?at={at}&message={quote(message)}&{probe.query}")
        assert (response.status, response.complete) == (500, True)
        assert message.encode() not in response.body
    wsgi.wait_for_log(f"RuntimeError: {message}")
    log = wsgi.log
    traceback = log[log.rindex("Traceback (most recent call last)", 0, log.index(f"RuntimeError: {message}")) :]
    assert "apps_wsgi.py" in traceback
    if at == "first":
        probe.wait("close")


@pytest.mark.parametrize("at", ["later", "length"])
def test_an_error_in_the_middle_cuts_the_response(wsgi: Server, probe: Probe, at: str) -> None:
    message = f"{at} {probe.path}"
    with Wire(wsgi) as wire:
        wire.request(f"/fails?at={at}&message={quote(message)}&{probe.query}")
        probe.open("raise")
        response = wire.response()
        assert response.status == 200
        assert not response.complete
        assert response.body in (b"part", b"")
    wsgi.wait_for_log(f"RuntimeError: {message}")
    probe.wait("close")


def test_an_error_in_close_is_in_the_log_after_a_whole_response(wsgi: Server, probe: Probe) -> None:
    message = f"close {probe.path}"
    with Wire(wsgi) as wire:
        response = wire.exchange(f"/fails_in_close?message={quote(message)}&{probe.query}")
        assert (response.status, response.body, response.complete) == (200, b"body", True)
    wsgi.wait_for_log(f"RuntimeError: {message}")
    assert probe.names().count("close") == 1


@pytest.mark.parametrize("kind", ["none", "number", "text", "numbers"])
@pytest.mark.differs(gunicorn="sends the head first", waitress="sends the head first")
def test_items_that_are_not_bytes_are_500(wsgi: Server, kind: str) -> None:
    with Wire(wsgi) as wire:
        assert wire.exchange(f"/bad_items?kind={kind}").status == 500


def test_the_server_serves_on_after_errors(wsgi: Server, probe: Probe) -> None:
    for _ in range(50):
        with Wire(wsgi) as wire:
            assert wire.exchange(f"/fails?at=call&message=again&{probe.query}").status == 500
    with Wire(wsgi) as wire:
        assert wire.exchange("/hello").status == 200


# close


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_once_after_the_last_item(wsgi: Server, probe: Probe, method: str) -> None:
    with Wire(wsgi) as wire:
        wire.exchange(f"/body?items={quote(repr([b'one', b'two']))}&{probe.query}", method)
        probe.wait("close")
    with Wire(wsgi) as wire:
        wire.exchange("/hello")
    names = probe.names()
    assert names.count("close") == 1 and names[-1] == "close"
    if method == "GET":
        assert names == ["item", "item", "close"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_close_is_called_once_when_the_client_leaves(wsgi: Server, probe: Probe, how: str) -> None:
    with Wire(wsgi) as wire:
        wire.request(f"/endless?{probe.query}")
        assert wire.head().status == 200
        getattr(wire, how)()
    probe.wait("close")
    with Wire(wsgi) as wire:
        wire.exchange("/hello")
    assert probe.names().count("close") == 1
    assert probe.names()[-1] == "close"


def test_a_client_that_leaves_is_no_error_in_the_log(serve: Servers, probe: Probe) -> None:
    server = serve("apps_wsgi:app", interface="wsgi")
    with Wire(server) as wire:
        wire.request(f"/endless?{probe.query}")
        assert wire.head().status == 200
        wire.reset()
    probe.wait("close")
    _, log = server.stop()
    assert "Traceback" not in log


# Threads


def test_one_request_is_on_one_thread(wsgi: Server, tmp_path: Path) -> None:
    probes = [Probe(tmp_path / str(number)) for number in range(8)]

    def get(probe: Probe) -> None:
        with Wire(wsgi) as wire:
            assert wire.exchange(f"/threads?{probe.query}").body == b"item" * 20

    with ThreadPoolExecutor(len(probes)) as clients:
        list(clients.map(get, probes))
    for probe in probes:
        probe.wait("close")
        assert probe.names() == ["call", *["item"] * 20, "close"]
        assert len({event["thread"] for event in probe.events()}) == 1


def test_requests_overlap_unless_the_backend_is_sequential(wsgi: Server, backend: str, tmp_path: Path) -> None:
    probes = [Probe(tmp_path / str(number)) for number in range(4)]

    def get(probe: Probe) -> bytes:
        with Wire(wsgi) as wire:
            return wire.exchange(f"/meets?{probe.query}").body

    with ThreadPoolExecutor(len(probes)) as clients:
        answers = clients.map(get, probes)
        if backend == "sequential":
            for _ in probes:
                until(lambda: any(probe.names() and not probe.is_open("go") for probe in probes), "a request is here")
                here = [probe for probe in probes if probe.names() and not probe.is_open("go")]
                assert len(here) == 1
                here[0].open("go")
        else:
            for probe in probes:
                probe.wait("here")
            for probe in probes:
                probe.open("go")
        assert list(answers) == [b"met"] * len(probes)


# The log


def test_what_is_written_to_the_errors_is_in_the_log(wsgi: Server, probe: Probe) -> None:
    message = f"errors {probe.path}"
    with Wire(wsgi) as wire:
        assert wire.exchange(f"/errors?message={quote(message)}").status == 200
    for text in ["written", "of several", "lines"]:
        wsgi.wait_for_log(f"{message} {text}")


# The validator


VALID = [
    ("/environ", "GET", {}),
    ("/environ/a%2F?b", "GET", {"fields": [("X_Dropped", "1"), ("X-Twice", "a"), ("X-Twice", "b")]}),
    ("http://test/environ", "GET", {}),
    ("/environ", "GET", {"version": "HTTP/1.0"}),
    ("/environ", "POST", {"fields": [("Content-Type", "text/plain")], "body": b"body"}),
    ("/environ", "PUT", {"body": b""}),
    ("/environ", "REPORT", {"body": b"unread"}),
    ("/environ", "HEAD", {}),
    ("/nothing", "GET", {}),
    ("/hello", "GET", {}),
    ("/hello", "HEAD", {}),
    ("/status?line=204%20No%20Content", "GET", {}),
    ("/lazy_start", "GET", {}),
    ("/errors?message=validated", "GET", {}),
    ("/pieces?size=2", "POST", {"body": b"12345"}),
    ("/pieces?size=2", "POST", {"chunks": [b"12345", b"678"]}),
    ("/pieces?size=70000", "POST", {"body": b"x" * 1_000_000}),
    ("/reads?calls=" + quote(json.dumps([["readline"], ["readline", 3], ["readlines"]])), "POST", {"body": b"1\n2345"}),
    ("/body?items=" + quote(repr([b"1", b"", b"2"])), "GET", {}),
    ("/body?length=2&items=" + quote(repr([b"1", b"2"])), "GET", {}),
]


def test_the_validator_of_the_standard_library_finds_nothing(serve: Servers, probe: Probe) -> None:
    server = serve("apps_wsgi:validated", interface="wsgi")
    for target, method, request in VALID:
        with Wire(server) as wire:
            separator = "&" if "?" in target else "?"
            response = wire.exchange(f"{target}{separator}{probe.query}", method, **request)
            assert response.complete and response.status != 500, (target, response, server.log)
    with Wire(server) as wire:
        wire.request(f"/endless?{probe.query}")
        wire.head()
    until(lambda: "close" in probe.names(), "the endless response is closed")
    _, log = server.stop()
    assert "AssertionError" not in log
    assert "garbage collected" not in log


def test_the_validator_sees_an_error_of_the_application(serve: Servers, probe: Probe) -> None:
    server = serve("apps_wsgi:validated", interface="wsgi")
    with Wire(server) as wire:
        assert wire.exchange(f"/no_head?{probe.query}").status == 500
    with Wire(server) as wire:
        try:
            assert wire.exchange(f"/bad_items?kind=text&{probe.query}").status == 500
        except Ended:
            pass
    server.wait_for_log("AssertionError")
