"""What an application reports to its test, and where it waits for it.

A probe is a path. The events of the application are lines of a file, and an open gate is another file. Both work while
every thread of the server is held by a request, and from any process. The test makes a probe and passes its `query` in
the URL of a request; the application makes the same probe with `Probe.of`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

DEADLINE = float(os.environ.get("TEST_DEADLINE", "30"))
"""The time in seconds after which a test or an application gives up waiting. A busy machine may need a longer one."""

PAUSE = 0.002
"""The time in seconds between two looks."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition()`. Raises TimeoutError with `what` after the deadline."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE:.0f} s: {what}")
        time.sleep(PAUSE)
    return value


def settled(value: Callable[[], int], quiet: float = 0.5) -> int:
    """`value()` once it has been the same for `quiet` seconds."""
    last, since = value(), time.monotonic()
    end = since + DEADLINE
    while time.monotonic() - since < quiet:
        if (now := value()) != last:
            last, since = now, time.monotonic()
        if since > end:
            raise TimeoutError(f"the value still changes: {last}")
        time.sleep(PAUSE)
    return last


class Probe:
    """The events and gates of one request."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, query: str | bytes) -> Probe:
        """The probe that a query string names."""
        text = query.decode() if isinstance(query, bytes) else query
        return cls(parse_qs(text)["probe"][0])

    @property
    def query(self) -> str:
        """The part of a query string that names this probe."""
        return "probe=" + quote(str(self.path), safe="")

    def record(self, event: str, **facts: Any) -> None:
        """Adds an event. The facts must be values of JSON."""
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps({"event": event, **facts}).encode() + b"\n")

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """All events so far, or those of one name."""
        return [entry for entry in self._entries() if event in (None, entry["event"])]

    def names(self) -> list[str]:
        """The names of all events so far."""
        return [entry["event"] for entry in self._entries()]

    def wait(self, event: str, count: int = 1) -> dict[str, Any]:
        """The event of this name that is number `count`, as soon as there is one."""
        until(lambda: len(self.events(event)) >= count, f"{count} × {event!r}; events: {self.events()}")
        return self.events(event)[count - 1]

    def progress(self, value: int) -> None:
        """Sets a number that `measure` reads."""
        scratch = self._file("scratch")
        scratch.write_text(str(value))
        scratch.rename(self._file("progress"))

    def measure(self) -> int:
        """The number that was set last; 0 before the first one."""
        try:
            return int(self._file("progress").read_text())
        except FileNotFoundError:
            return 0

    def open(self, gate: str) -> None:
        """Lets the application pass a gate."""
        self._file(gate).touch()

    def is_open(self, gate: str) -> bool:
        """Whether the test has opened a gate."""
        return self._file(gate).exists()

    def pass_gate(self, gate: str) -> None:
        """Waits until the test opens a gate."""
        until(lambda: self.is_open(gate), f"the gate {gate!r} is open")

    async def pass_gate_async(self, gate: str) -> None:
        """Waits until the test opens a gate, and lets other tasks run."""
        end = time.monotonic() + DEADLINE
        while not self.is_open(gate):
            if time.monotonic() > end:
                raise TimeoutError(f"the gate {gate!r} stays closed")
            await asyncio.sleep(PAUSE)

    def _file(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _entries(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            # A line without its end is still being written.
            for line in self.path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)
