"""ASGI, "Lifespan Protocol": the start before the first request, the stop after the last one, and failures of both."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from signal import SIGINT, SIGTERM

import pytest
from probe import Probe, until
from serving import KIND, Server, Servers

from .wire import Wire

# On these backends each thread has an event loop, and each event loop has a lifespan: "in a multi-threaded environment
# there will be lifespans for each thread".
THREADED = {"sequential", "threadpool"}


@pytest.fixture
def environment(probe: Probe) -> dict[str, str]:
    """The variable that tells the application where it reports."""
    return {"PROBE": str(probe.path)}


def get(server: Server, target: str = "/") -> bytes:
    """The body of a response, which must be 200."""
    with Wire(server) as wire:
        response = wire.exchange(target)
        assert response.status == 200, server.log
        return response.body


def test_the_start_is_before_the_requests_and_the_stop_after_them(
    serve: Servers, backend: str, probe: Probe, environment: dict[str, str]
) -> None:
    server = serve("apps_lifespan:complete", "--lifespan=on", env=environment)
    for _ in range(3):
        assert get(server) == b"ok"
    server.stop()
    names = probe.names()
    assert names[:4] == ["scope", "lifespan.startup", "started", "request"]
    assert names[-2:] == ["lifespan.shutdown", "stopped"]
    last_request = len(names) - 1 - names[::-1].index("responded")
    assert names.index("lifespan.shutdown") > last_request
    count = names.count("scope")
    assert count == 1 or backend in THREADED
    for name in ["lifespan.startup", "started", "lifespan.shutdown", "stopped"]:
        assert names.count(name) == count


def test_the_scope_of_the_lifespan(serve: Servers, probe: Probe, environment: dict[str, str]) -> None:
    serve("apps_lifespan:complete", "--lifespan=on", env=environment)
    scope = probe.wait("scope")
    assert set(scope["keys"]) == {"type", "asgi", "state"}
    assert "version" in scope["asgi"] and scope["state"] == {}


def test_requests_run_on_a_loop_that_was_started(serve: Servers, probe: Probe, environment: dict[str, str]) -> None:
    server = serve("apps_lifespan:complete", "--lifespan=on", env=environment)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda _: get(server), range(40)))
    server.stop()
    started = {event["loop"] for event in probe.events("lifespan.startup")}
    assert {event["loop"] for event in probe.events("request")} <= started


def test_the_state_of_the_start_is_that_of_requests(serve: Servers, environment: dict[str, str]) -> None:
    server = serve("apps_lifespan:complete", "--lifespan=on", env=environment)
    for _ in range(3):
        assert json.loads(get(server, "/state")) == {"made": "at the start"}


@pytest.mark.gearshift
def test_a_request_waits_for_the_start(serve: Servers, probe: Probe, environment: dict[str, str]) -> None:
    server = serve("apps_lifespan:slow_start", "--lifespan=on", env=environment)
    with Wire(server) as wire:
        wire.request("/")
        probe.wait("lifespan.startup")
        probe.open("start")
        assert wire.response().body == b"ok"
    names = probe.names()
    assert names.index("completed") < names.index("request")


@pytest.mark.differs(gunicorn="restarts the worker")
def test_a_start_that_has_failed_ends_the_process(serve: Servers, environment: dict[str, str]) -> None:
    for flags in [(), ("--lifespan=on",)]:
        server = serve.start("apps_lifespan:start_fails", *flags, env=environment, status=3)
        assert server.wait() == 3
        assert "no database" in server.log


@pytest.mark.parametrize("app", ["raises", "raises_late"])
def test_an_exception_means_that_there_is_no_lifespan(
    serve: Servers, probe: Probe, environment: dict[str, str], app: str
) -> None:
    server = serve(f"apps_lifespan:{app}", env=environment)
    assert get(server) == b"ok"
    server.stop()
    assert probe.names()[0] == "raised"
    assert "Traceback" not in server.log or KIND != "gearshift"


@pytest.mark.differs(gunicorn="restarts the worker")
@pytest.mark.parametrize("app", ["raises", "raises_late"])
def test_an_exception_ends_the_process_if_the_lifespan_is_on(
    serve: Servers, environment: dict[str, str], app: str
) -> None:
    server = serve.start(f"apps_lifespan:{app}", "--lifespan=on", env=environment, status=3)
    assert server.wait() == 3
    assert "RuntimeError: no lifespan here" in server.log


@pytest.mark.parametrize("app", ["complete", "raises", "start_fails"])
def test_a_lifespan_that_is_off_is_not_called(
    serve: Servers, probe: Probe, environment: dict[str, str], app: str
) -> None:
    server = serve(f"apps_lifespan:{app}", "--lifespan=off", env=environment)
    assert get(server) == b"ok"
    assert json.loads(get(server, "/state")) in (None, {})
    server.stop()
    assert set(probe.names()) <= {"request", "responded"}


@pytest.mark.differs(gunicorn="SIGINT cuts the request")
@pytest.mark.parametrize("signal", [SIGTERM, SIGINT])
def test_the_stop_waits_for_the_last_request(
    serve: Servers, probe: Probe, environment: dict[str, str], signal: int
) -> None:
    server = serve("apps_lifespan:complete", "--lifespan=on", env=environment)
    with Wire(server) as wire:
        wire.request("/wait")
        probe.wait("request")
        server.signal(signal)
        until(lambda: not accepts(server), "the server does not accept")
        assert "lifespan.shutdown" not in probe.names()
        probe.open("respond")
        assert wire.response().body == b"ok"
    server.wait()
    names = probe.names()
    assert names.index("responded") < names.index("lifespan.shutdown")
    assert names[-1] == "stopped"


def accepts(server: Server) -> bool:
    """Whether the server accepts a connection and answers its request."""
    try:
        with Wire(server) as wire:
            wire.socket.settimeout(0.2)
            wire.request("/")
            return bool(wire.socket.recv(1))
    except OSError:
        return False


@pytest.mark.gearshift
def test_the_stop_runs_after_the_grace_period(
    serve: Servers, backend: str, probe: Probe, environment: dict[str, str]
) -> None:
    # The request that is left is cut, so the status is 1.
    flags = ["--lifespan=on", "--graceful-timeout=500ms"]
    server = serve("apps_lifespan:complete", *flags, env=environment, status=1)
    with Wire(server) as wire:
        wire.request("/wait")
        probe.wait("request")
        status, _ = server.stop()
    assert status == 1
    # A thread that a request holds cannot stop its event loop.
    assert "stopped" in probe.names() or backend in THREADED


def test_a_stop_that_has_failed_is_in_the_log(serve: Servers, environment: dict[str, str]) -> None:
    server = serve("apps_lifespan:stop_fails", "--lifespan=on", env=environment)
    assert get(server) == b"ok"
    _, log = server.stop()
    assert "the pool is not empty" in log


@pytest.mark.differs(uvicorn="only with --lifespan on", gunicorn="does not log it")
def test_an_exception_at_the_stop_is_in_the_log(serve: Servers, environment: dict[str, str]) -> None:
    server = serve("apps_lifespan:stop_raises", env=environment)
    assert get(server) == b"ok"
    _, log = server.stop()
    assert "RuntimeError: the stop raises" in log


def test_a_task_of_the_lifespan_runs_until_its_stop(serve: Servers, probe: Probe, environment: dict[str, str]) -> None:
    server = serve("apps_lifespan:task", "--lifespan=on", env=environment)
    for _ in range(3):
        assert get(server) == b"ok"
    server.stop()
    assert probe.wait("shutdown")["is_running"]


@pytest.mark.differs(gunicorn="has no factory")
def test_a_factory_is_called(serve: Servers, environment: dict[str, str]) -> None:
    assert get(serve("apps_lifespan:factory", "--factory", env=environment)) == b"ok"
