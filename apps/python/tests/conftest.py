"""Fixtures: the backend, servers, clients, and probes.

`GEARSHIFT_BACKENDS="mio threadpool"` selects backends. `GEARSHIFT_TEST_SERVER` selects another server (`serving.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import pytest
import serving
from probe import DEADLINE, Probe
from serving import Servers

# A fixture that is not a parameter of a test stops after its report. The hook below reads the logs of these.
_started: list[Servers] = []


@pytest.fixture(scope="session", params=serving.backends())
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend: each test that has it runs on all of them."""
    return request.param


@pytest.fixture
def serve(backend: str, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Starts servers for one test, in the directory of its file: `serve("module:app", "--flag=value")`.

    After the test each server is stopped, and must end with status 0 unless the call names another one.
    """
    yield from _servers(backend, request.path.parent)


@pytest.fixture(scope="module")
def serve_shared(backend: str, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Starts servers for all tests of a module: `serve_shared.shared("module:app")`."""
    yield from _servers(backend, request.path.parent)


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """A probe for one test."""
    return Probe(tmp_path / "probe")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client that keeps its connections."""
    with httpx.Client(timeout=DEADLINE, trust_env=False) as client:
        yield client


def _servers(backend: str, cwd: Path) -> Iterator[Servers]:
    servers = Servers(backend, cwd)
    _started.append(servers)
    yield servers
    _started.remove(servers)
    servers.finish()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "differs(**servers): what a control server does instead")
    config.addinivalue_line("markers", "gearshift: about a flag or a decision of gearshift, not about the interface")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("differs"):
            if reason := marker.kwargs.get(serving.KIND):
                item.add_marker(pytest.mark.xfail(reason=f"{serving.KIND}: {reason}", strict=False))
        if serving.KIND != "gearshift" and item.get_closest_marker("gearshift"):
            item.add_marker(pytest.mark.skip(reason="about gearshift"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the logs of the servers to the report of a test that failed."""
    report = yield
    if report.failed:
        for servers in _started:
            report.sections.append(("log of the server", servers.logs()))
    return report
