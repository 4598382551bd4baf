"""Applications that misbehave: the server serves on, or ends in order."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIGTERM

import pytest
from probe import DEADLINE, Probe
from serving import TESTS, Servers

from .wire import Ended, Wire

pytestmark = pytest.mark.gearshift

SIZE = 4 * 1024 * 1024
"""The size in bytes of a body that a blocking backend does not receive before it calls the application."""

HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]


def test_the_server_serves_on_when_the_application_stops_the_loop(serve: Servers) -> None:
    server = serve("apps_faults:tasks")
    for path in ("/stops", "/", "/stops", "/"):
        with Wire(server) as wire:
            assert wire.exchange(path).body == b"ok"
    assert server.log.count("the application has stopped an asyncio loop") == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_log_does_not_tell_of_stops_by_the_server(serve: Servers, loop: str) -> None:
    server = serve("apps_faults:tasks", f"--loop={loop}")
    for _ in range(3):
        with Wire(server) as wire:
            assert wire.exchange("/").body == b"ok"
    server.stop()
    assert "has stopped an asyncio loop" not in server.log


def test_the_server_serves_on_when_the_application_breaks_the_loop(serve: Servers) -> None:
    server = serve("apps_faults:tasks", "--loop=asyncio")
    for path in ("/breaks", "/", "/breaks", "/", "/"):
        with Wire(server) as wire:
            assert wire.exchange(path).body == b"ok"
    server.wait_for_log("has failed")
    server.wait_for_log("IndexError: pop from an empty deque")


def test_a_loop_that_fails_again_and_again_ends_the_process(serve: Servers, backend: str) -> None:
    if backend in ("sequential", "threadpool"):
        pytest.skip("a loop that fails holds up its own request only")
    server = serve("apps_faults:tasks", "--loop=asyncio", "--graceful-timeout=500ms", status=1)
    with Wire(server) as wire:
        while "finishing the requests in flight" not in server.log:
            with suppress(Ended):
                wire.exchange("/breaks")
    assert server.wait() == 1
    assert server.log.count("the asyncio loop has failed") == 10


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_the_application_closes_is_replaced(
    serve: Servers, backend: str, probe: Probe, loop: str
) -> None:
    if backend not in ("sequential", "threadpool"):
        pytest.skip("the loop runs until the end, so the application cannot close it")
    server = serve("apps_faults:tasks", f"--loop={loop}")
    for count in (1, 2):
        with Wire(server) as wire:
            assert wire.exchange(f"/closes?{probe.query}").body == b"ok"
            probe.wait("closed", count)
            assert wire.exchange("/").body == b"ok"
    server.stop()
    assert server.log.count("the application has closed an asyncio loop") == 1
    assert "Traceback" not in server.log


def test_tasks_that_exit_end_the_process_after_its_requests(serve: Servers, probe: Probe) -> None:
    server = serve("apps_faults:tasks", status=7)
    with Wire(server) as wire:
        wire.request(f"/exits?{probe.query}")
        server.wait_for_log("finishing the requests in flight")
        probe.open("respond")
        assert wire.response().body == b"ok"
    assert server.wait() == 7
    assert "stopping at once" not in server.log


def test_tasks_that_exit_during_a_stop_do_not_force_it(serve: Servers, probe: Probe) -> None:
    server = serve("apps_faults:tasks", status=7)
    with Wire(server) as wire:
        wire.request(f"/late?{probe.query}")
        probe.wait("begun")
        server.signal(SIGTERM)
        server.wait_for_log("finishing the requests in flight")
        probe.open("exit")
        probe.open("respond")
        assert wire.response().body == b"ok"
    assert server.wait() == 7
    assert "stopping at once" not in server.log


def test_websockets_that_come_while_their_loop_starts_are_accepted(serve: Servers, probe: Probe, backend: str) -> None:
    server = serve("apps_faults:sockets", env={"PROBE": str(probe.path)})
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(server)) for _ in range(4)]
        for wire in wires:
            wire.request("/", fields=HANDSHAKE)
        if backend in ("sequential", "threadpool"):
            probe.wait("start", 2)
        probe.open("start")
        assert [wire.head().status for wire in wires] == [101] * 4


@pytest.mark.parametrize("path", ["/generated", "/closed"])
def test_a_response_that_exits_ends_the_process(serve: Servers, path: str) -> None:
    server = serve("apps_faults:wsgi", interface="wsgi", status=7)
    with Wire(server) as wire:
        wire.request(path)
        assert wire.head().status == 200
    assert server.wait() == 7


def test_another_thread_reads_the_body_or_raises(serve: Servers, backend: str) -> None:
    server = serve("apps_faults:wsgi", interface="wsgi")
    expected = b"'RuntimeError'" if backend == "sequential" else str(SIZE).encode()
    for _ in range(2):
        with Wire(server) as wire, ThreadPoolExecutor(1) as executor:
            # On `sequential` nothing reads the body before the response.
            sending = executor.submit(wire.request, "/reads", "POST", body=b"x" * SIZE)
            assert wire.response().body == expected
            wire.close()
            sending.exception(DEADLINE)


def test_a_response_does_not_wait_for_another_thread_that_reads(serve: Servers) -> None:
    server = serve("apps_faults:wsgi", interface="wsgi")
    for _ in range(2):
        with Wire(server) as wire:
            wire.send(f"POST /leaves_reader HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n".encode())
            assert wire.response().body == b"ok"


def test_a_deep_recursion_raises(serve: Servers) -> None:
    server = serve("apps_faults:wsgi", interface="wsgi")
    with Wire(server) as wire:
        assert wire.exchange("/recursive").body == b"RecursionError"


@pytest.mark.parametrize("flag", ["--chdir", "--app-dir"])
def test_a_reload_watches_the_directory_of_the_application(
    serve: Servers, backend: str, tmp_path: Path, flag: str
) -> None:
    module, elsewhere = tmp_path / "code" / "reloaded.py", tmp_path / "elsewhere"
    for directory in (module.parent, elsewhere):
        directory.mkdir()
    module.write_text("from apps_faults import wsgi as app\n")
    server = serve(
        "reloaded:app",
        "--reload",
        f"{flag}={module.parent}",
        interface="wsgi",
        cwd=elsewhere,
        env={"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS / "protocol"), os.environ.get("PYTHONPATH", "")])},
    )
    module.write_text("from apps_faults import wsgi as app  # changed\n")
    server.wait_for_log("the processes are replaced")


def test_reload_may_be_a_key_of_a_file(serve: Servers, tmp_path: Path) -> None:
    module, settings = tmp_path / "reloaded.py", tmp_path / "gearshift.toml"
    module.write_text("from apps_faults import wsgi as app\n")
    settings.write_text("reload = true\n")
    path = os.pathsep.join([str(TESTS), str(TESTS / "protocol"), os.environ.get("PYTHONPATH", "")])
    server = serve(
        "reloaded:app", f"--config={settings}", interface="wsgi", cwd=tmp_path, env={"PYTHONPATH": path}
    )
    module.write_text("from apps_faults import wsgi as app  # changed\n")
    server.wait_for_log("the processes are replaced")
