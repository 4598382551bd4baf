"""ASGI: what the task of a request has around it, also for a request that never waits."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from probe import until
from serving import Server, Servers

from .wire import Wire

PAUSE = 0.3
"""A time in seconds without requests."""


@pytest.fixture
def tasks(serve_shared: Servers) -> Server:
    """A server with the application of these tests."""
    return serve_shared.shared("apps_tasks:app")


def answer(client: httpx.Client, server: Server, path: str, of: str = "") -> dict[str, Any]:
    """The answer of the application; `noted_of` is what it has noted for the path `of`."""
    return client.get(f"{server.url}{path}?{of}").raise_for_status().json()


def test_a_request_has_its_own_task_on_a_running_loop(tasks: Server, client: httpx.Client) -> None:
    first, second = answer(client, tasks, "/own"), answer(client, tasks, "/own")
    assert first["is_running"] and first["is_current"]
    # A value that the first request has set is not in the context of the second one.
    assert (first["before"], second["before"]) == ("nothing", "nothing")


@pytest.mark.gearshift
def test_the_task_has_the_name_of_the_path(tasks: Server, client: httpx.Client) -> None:
    assert answer(client, tasks, "/name/%C3%A4")["name"] == "/name/ä"


@pytest.mark.parametrize("kind", ["callback", "threadsafe", "task", "timer", "generator"])
def test_what_a_request_leaves_on_the_loop_happens_after_it(
    tasks: Server, client: httpx.Client, backend: str, kind: str
) -> None:
    path = f"/{kind}"
    expected = f"task after {path}" if kind == "task" else kind
    assert answer(client, tasks, path)["noted"] == []
    if backend in ("sequential", "threadpool") and kind != "timer":
        # The loop does not run between requests, so it has run at the end of that one.
        assert answer(client, tasks, "/other", path)["noted_of"] == [expected]
    until(lambda: answer(client, tasks, "/other", path)["noted_of"] == [expected], f"{kind} happens")


def test_the_clock_of_the_loop_goes_on_between_requests(tasks: Server, client: httpx.Client) -> None:
    before = answer(client, tasks, "/time")["time"]
    time.sleep(PAUSE)
    # The clock of uvloop counts milliseconds.
    assert answer(client, tasks, "/time")["time"] - before > PAUSE - 0.002


def test_a_factory_of_tasks_makes_those_of_requests(serve: Servers, client: httpx.Client) -> None:
    server = serve("apps_tasks:with_factory")
    counts = [int(client.get(server.url).raise_for_status().text) for _ in range(3)]
    assert counts[1] > counts[0] and counts[2] > counts[1], counts


def test_a_call_soon_of_the_application_is_kept(serve: Servers, client: httpx.Client) -> None:
    server = serve("apps_tasks:with_call_soon")
    counts = [int(client.get(server.url).raise_for_status().text) for _ in range(3)]
    assert counts[2] > counts[1] > counts[0] > 0, counts


@pytest.mark.gearshift
def test_a_request_that_runs_the_loop_inside_its_step_leaves_it_to_others(
    serve: Servers, backend: str
) -> None:
    if backend in ("sequential", "threadpool"):
        pytest.skip("each request has a loop for itself")
    server = serve("apps_tasks:nested", "--loop=asyncio")
    with Wire(server) as inside, Wire(server) as opens:
        inside.request("/inside")
        assert opens.exchange("/opens").body == b"ok"
        assert inside.response().body == b"ok"
    assert "Traceback" not in server.log


def test_a_thread_of_anyio_serves_more_than_one_request(serve: Servers, client: httpx.Client) -> None:
    server = serve("apps_tasks:on_thread")
    threads = {client.get(server.url).raise_for_status().text for _ in range(3)}
    assert len(threads) == 1, threads
