"""SIGTERM and SIGINT with applications that handle them too, during the start, and at the end of the process."""

from __future__ import annotations

import ctypes
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest
from probe import Probe, until
from serving import Server, Servers

from .wire import Wire

pytestmark = pytest.mark.gearshift

THREADED = {"sequential", "threadpool"}

# No test waits for the end of the time for a stop.
LONG = "--graceful-timeout=1h"


def environment(probe: Probe, **variables: str) -> dict[str, str]:
    """The variables for the application."""
    return {"PROBE": str(probe.path), **variables}


def started(server: Server) -> None:
    """Waits until the application has started."""
    with Wire(server) as wire:
        assert wire.exchange("/").body == b"ok"


def handles_during_a_request(server: Server, probe: Probe, number: Signals, thread: int | None = None) -> None:
    """Sends a signal during a request, to one thread if it is given. The handler runs, and the request is answered."""
    with Wire(server) as wire:
        wire.request("/wait")
        probe.wait("waits")
        if thread is None:
            server.signal(number)
        else:
            assert ctypes.CDLL(None).tgkill(server.pid, thread, number) == 0
        server.wait_for_log("finishing the requests in flight")
        probe.wait("handled")
        probe.open("respond")
        assert wire.response().body == b"ok"


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
@pytest.mark.parametrize("handler", ["import", "import calls previous", "import raises", "import restores"])
def test_a_handler_of_wsgi_runs_and_the_server_stops(
    serve: Servers, probe: Probe, handler: str, number: Signals
) -> None:
    server = serve(
        "apps_signals:wsgi", LONG, interface="wsgi", env=environment(probe, HANDLER=handler, SIGNAL=number.name)
    )
    with Wire(server) as wire:
        wire.request("/wait")
        probe.wait("waits")
        server.signal(number)
        server.wait_for_log("finishing the requests in flight")
        if handler != "import restores":
            probe.wait("handled")
        probe.open("respond")
        assert wire.response().body == b"ok"
    assert server.wait() == 0
    assert "stopping at once" not in server.log
    assert ("ValueError: the handler fails" in server.log) == ("raises" in handler)


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "handler", ["import", "lifespan", "lifespan loop", "lifespan calls previous", "request", "request loop"]
)
def test_a_handler_of_asgi_runs_and_the_server_stops(
    serve: Servers, backend: str, probe: Probe, handler: str, loop: str, number: Signals
) -> None:
    if backend in THREADED and not handler.startswith("import"):
        pytest.skip("the loop of a handler runs on the main thread only during the start")
    server = serve(
        "apps_signals:asgi", LONG, f"--loop={loop}", env=environment(probe, HANDLER=handler, SIGNAL=number.name)
    )
    if handler.startswith("request"):
        with Wire(server) as wire:
            assert wire.exchange("/sets").body == b"ok"
    handles_during_a_request(server, probe, number)
    assert server.wait() == 0
    assert "stopping at once" not in server.log
    assert "stopped" in probe.names()
    assert probe.names().count("handled") == 1


def test_a_handler_runs_if_another_thread_gets_the_signal(serve: Servers, probe: Probe) -> None:
    server = serve("apps_signals:wsgi", LONG, interface="wsgi", env=environment(probe, HANDLER="import"))
    threads = [int(path.name) for path in Path(f"/proc/{server.pid}/task").iterdir()]
    other = next(thread for thread in threads if thread != server.pid)
    handles_during_a_request(server, probe, SIGTERM, thread=other)
    assert server.wait() == 0


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
@pytest.mark.parametrize("handler", ["import exits", "lifespan exits", "lifespan loop exits"])
def test_a_handler_that_exits_ends_the_process_after_its_requests(
    serve: Servers, backend: str, probe: Probe, handler: str, number: Signals
) -> None:
    if backend in THREADED and handler == "lifespan loop exits":
        pytest.skip("the loop of the handler runs on the main thread only during the start")
    server = serve(
        "apps_signals:asgi", LONG, env=environment(probe, HANDLER=handler, SIGNAL=number.name), status=5
    )
    handles_during_a_request(server, probe, number)
    assert server.wait() == 5
    assert "stopping at once" not in server.log
    assert "stopped" in probe.names()


def test_a_signal_that_the_application_ignores_stops_the_server(serve: Servers, probe: Probe) -> None:
    server = serve("apps_signals:wsgi", interface="wsgi", env=environment(probe, HANDLER="import ignores"))
    started(server)
    assert server.stop()[0] == 0
    assert server.log.count("the application ignores SIGTERM; the server stops on it nevertheless") == 1


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_a_handler_runs_in_the_processes_of_a_supervisor(
    serve: Servers, probe: Probe, app: str, number: Signals
) -> None:
    server = serve(
        f"apps_signals:{app}", LONG, "--workers=1", interface=app, env=environment(probe, HANDLER="import")
    )
    server.wait_for_log(" serves")
    with Wire(server) as wire:
        wire.request("/wait")
        probe.wait("waits")
        server.signal(number)
        probe.wait("handled")
        probe.open("respond")
        assert wire.response().body == b"ok"
    assert server.wait() == 0
    assert probe.names().count("handled") == 1
    assert "was asked to stop and is replaced" not in server.log


@pytest.mark.parametrize("handler", ["", "import"])
def test_a_process_that_the_application_forks_is_ended_by_a_signal(
    serve: Servers, probe: Probe, handler: str
) -> None:
    server = serve("apps_signals:wsgi", interface="wsgi", env=environment(probe, HANDLER=handler, SIGNAL="SIGINT"))
    with Wire(server) as wire:
        assert wire.exchange("/fork").body == b"-15"


@pytest.mark.parametrize("flags", [(), ("--workers=1",)], ids=["alone", "supervised"])
@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
@pytest.mark.parametrize(
    "hang",
    [
        "import sleeps",
        "import computes",
        "import waits for a lock",
        "import in a process",
        "lifespan",
        "lifespan blocks",
        "lifespan holds on",
    ],
)
def test_a_signal_during_the_start_ends_the_process(
    serve: Servers, probe: Probe, hang: str, number: Signals, flags: tuple[str, ...]
) -> None:
    # The start lasts an hour, and so does the time for a stop.
    server = serve("apps_signals:asgi", LONG, *flags, env=environment(probe, HANG=hang))
    probe.wait("hangs")
    server.signal(number)
    assert server.wait() == 0
    assert "the server was stopped before the application had started" in server.log
    assert "Traceback" not in server.log or hang == "lifespan holds on"


def test_a_start_that_hangs_with_a_handler_of_the_application_ends(serve: Servers, probe: Probe) -> None:
    server = serve("apps_signals:asgi", LONG, env=environment(probe, HANDLER="import", HANG="import sleeps"))
    probe.wait("hangs")
    handled = 0
    # The server finds the handler within a second, and learns of the next signal.
    while "finishing the requests in flight" not in server.log:
        server.signal(SIGTERM)
        handled += 1
        until(
            lambda: probe.names().count("handled") >= handled or "finishing" in server.log,
            "the handler of the application has run",
        )
    # The last signal may have come before that line was read, and was the second one for the server then.
    status = server.wait()
    server.expected_status = 1 if "stopping at once" in server.log else 0
    assert status == server.expected_status


def test_a_connection_that_waits_for_a_start_is_cut(serve: Servers, probe: Probe) -> None:
    server = serve("apps_signals:asgi", LONG, env=environment(probe, HANG="lifespan"), status=1)
    probe.wait("hangs")
    with Wire(server) as wire:
        wire.request("/")
        server.signal(SIGTERM)
        assert server.wait() == 1


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_a_thread_that_does_not_end_does_not_hold_the_process(serve: Servers, probe: Probe, app: str) -> None:
    server = serve(f"apps_signals:{app}", "--graceful-timeout=2s", interface=app, env=environment(probe, HANG="thread"))
    started(server)
    assert server.stop()[0] == 0
    assert "without threads that have not ended: 'holder'" in server.log


def test_a_second_signal_does_not_wait_for_threads(serve: Servers, probe: Probe) -> None:
    server = serve("apps_signals:wsgi", LONG, interface="wsgi", env=environment(probe, HANG="thread"))
    started(server)
    server.signal(SIGINT)
    server.wait_for_log("or at the next signal, without threads that have not ended: 'holder'")
    assert server.stop(SIGINT)[0] == 0
