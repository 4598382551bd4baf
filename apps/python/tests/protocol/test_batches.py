"""Requests that are at hand at once: what one of them does to the others."""

from __future__ import annotations

import re
from contextlib import ExitStack
from select import select

import httpx
import pytest
from probe import DEADLINE, Probe, settled, until
from serving import Server, Servers

from .wire import Wire

pytestmark = pytest.mark.gearshift

BLOCKING = ("sequential", "threadpool")
SHORT = 8
"""The number of short requests that wait together."""


def with_threads(backend: str, count: int) -> list[str]:
    """The flags for this number of threads that run WSGI."""
    if backend == "sequential":
        return []
    return [f"--threads={count}" if backend == "threadpool" else f"--blocking-threads={count}"]


def held(server: Server, probe: Probe, stack: ExitStack) -> Wire:
    """A request that holds the thread of Python until the test opens the gate `first`."""
    wire = stack.enter_context(Wire(server))
    wire.request(f"/blocks/first?{probe.query}")
    probe.wait("first")
    return wire


def sent(server: Server, probe: Probe, stack: ExitStack, path: str) -> Wire:
    """A request that was sent."""
    wire = stack.enter_context(Wire(server))
    wire.request(f"{path}?{probe.query}")
    return wire


@pytest.mark.parametrize("app", ["asgi", "wsgi", "wsgi_generator"])
def test_complete_responses_do_not_wait_for_a_request_that_blocks(
    serve: Servers, probe: Probe, backend: str, app: str
) -> None:
    server = serve(f"apps_batches:{app}", *with_threads(backend, 1), interface=app[:4])
    with ExitStack() as stack:
        first = held(server, probe, stack)
        short = [sent(server, probe, stack, "/short") for _ in range(SHORT)]
        last = sent(server, probe, stack, "/blocks/last")
        probe.open("first")
        # While the last request blocks the only thread.
        assert {wire.response().body for wire in [first, *short]} == {b"ok"}
        probe.wait("last")
        probe.open("last")
        assert last.response().body == b"ok"


def test_a_request_that_computes_leaves_time_for_short_ones(serve: Servers, probe: Probe, backend: str) -> None:
    if backend == "sequential":
        pytest.skip("one request at a time")
    server = serve("apps_batches:wsgi", interface="wsgi")
    with ExitStack() as stack:
        long = [sent(server, probe, stack, "/computes") for _ in range(2)]
        probe.wait("computes", 2)
        for _ in range(5):
            short = [sent(server, probe, stack, "/short") for _ in range(SHORT)]
            assert {wire.response().body for wire in short} == {b"ok"}
        probe.open("stop")
        assert {wire.response().body for wire in long} == {b"ok"}


def test_short_requests_keep_their_thread_beside_one_that_waits(serve: Servers, probe: Probe, backend: str) -> None:
    if backend in BLOCKING:
        pytest.skip("the thread of a connection runs its requests")
    server = serve("apps_batches:wsgi_threads", interface="wsgi")
    with ExitStack() as stack:
        first = held(server, probe, stack)
        wires = [stack.enter_context(Wire(server)) for _ in range(4 * SHORT)]

        def changes() -> int:
            count = len(probe.events("keeps")) + 1
            keeps = sent(server, probe, stack, "/keeps")
            probe.wait("keeps", count)
            for wire in wires:
                wire.request(f"/thread?{probe.query}")
            assert {wire.response().body for wire in [keeps, *wires]} == {b"ok"}
            return int(Wire(server).exchange("/threads").body)

        # A thread gives up its turn after 1 ms, so on a busy machine some of the rounds change threads more often.
        until(lambda: changes() < len(wires) / 2, "most requests run on the thread of the one before")
        probe.open("first")
        assert first.response().body == b"ok"


def test_requests_that_wait_overlap_on_all_threads(serve: Servers, probe: Probe, backend: str) -> None:
    threads = 1 if backend == "sequential" else 6
    server = serve("apps_batches:wsgi", *with_threads(backend, threads), interface="wsgi")
    with ExitStack() as stack:
        wires = [sent(server, probe, stack, "/blocks/gate") for _ in range(threads + 2)]
        probe.wait("gate", threads)
        assert settled(lambda: len(probe.events("gate"))) == threads
        probe.open("gate")
        assert {wire.response().body for wire in wires} == {b"ok"}


def test_requests_beyond_the_queue_are_refused(serve: Servers, probe: Probe, backend: str) -> None:
    if backend in BLOCKING:
        pytest.skip("there is no queue")
    flags = ["--blocking-threads=1", "--pool-queue=2", "--pool-overload=refuse"]
    server = serve("apps_batches:wsgi", *flags, interface="wsgi")
    with ExitStack() as stack:
        served = {held(server, probe, stack)}
        others = {sent(server, probe, stack, "/short") for _ in range(6)}
        refused = set()
        while len(refused) < 4:
            sockets = {wire.socket: wire for wire in others - refused}
            answered, _, _ = select(sockets, [], [], DEADLINE)
            assert answered, f"only {len(refused)} requests are answered"
            for socket in answered:
                refused.add(sockets[socket])
                response = sockets[socket].response()
                assert (response.status, response.get("retry-after")) == (503, "1")
        probe.open("first")
        assert {wire.response().body for wire in served | others - refused} == {b"ok"}
        assert Wire(server).exchange(f"/short?{probe.query}").status == 200


def test_a_request_whose_client_has_left_is_not_begun(serve: Servers, probe: Probe, backend: str) -> None:
    if backend in BLOCKING:
        pytest.skip("the thread of a connection begins its request")
    flags = ["--blocking-threads=1", "--metrics-bind=127.0.0.1:0"]
    server = serve("apps_batches:wsgi", *flags, interface="wsgi")
    with ExitStack() as stack:
        first = held(server, probe, stack)
        for _ in range(20):
            sent(server, probe, stack, "/left").reset()
        kept = sent(server, probe, stack, "/kept")
        server.wait_for_log("metrics at")
        url = re.search(r"metrics at (\S+)", server.log)[1]
        until(lambda: open_connections(url) == 2, "the clients have left")
        probe.open("first")
        assert first.response().body == kept.response().body == b"ok"
    assert not probe.events("left")


def open_connections(url: str) -> int:
    """The number of open connections that the server counts."""
    text = httpx.get(url, trust_env=False).text
    return int(re.search(r"^gearshift_connections_open (\d+)", text, re.MULTILINE)[1])


def test_a_thread_that_outlives_the_stop_does_not_abort_the_process(
    serve: Servers, probe: Probe, backend: str
) -> None:
    # On an event loop the client has left, so that no request is cut.
    status = 1 if backend in BLOCKING else 0
    server = serve("apps_batches:wsgi", "--graceful-timeout=500ms", interface="wsgi", status=status)
    with ExitStack() as stack:
        held(server, probe, stack).reset()
    found, log = server.stop()
    assert found == status, log
