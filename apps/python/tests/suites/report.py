"""Says which tests sent a request to the live server. A plugin of pytest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import live
import pytest

_counts: Counter[str] = Counter()
_failed: list[str] = []
_is_live: dict[str, bool] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: Any) -> Iterator[None]:
    before = live.requests
    result = yield
    is_live = live.requests > before
    outcome = _outcomes.pop(item.nodeid, "passed")
    _counts[f"{'live' if is_live else 'other'} {outcome}"] += 1
    if outcome == "failed":
        _failed.append(f"{'live' if is_live else 'other'} {item.nodeid}")
    return result


_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: Any) -> None:
    if report.failed or report.skipped:
        _outcomes[report.nodeid] = report.outcome


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = ", ".join(f"{kind} {number}" for kind, number in sorted(_counts.items()))
    terminalreporter.write_line(f"{live.BACKEND}: {counts}; {live.requests} requests")
    for line in _failed:
        terminalreporter.write_line(f"  {line}")
