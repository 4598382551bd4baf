"""The watch of `--reload`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

from gearshift._gearshift import log_info

# The time between two looks at the files, in seconds.
INTERVAL = 0.3


def watch(directories: list[str]) -> None:
    """Sends SIGHUP to this process when a file with the suffix .py changes. The supervisor then replaces its process."""
    # Before the server starts, so that each change that follows is seen.
    seen = dict(_times(directories))
    threading.Thread(target=_watch, args=(directories, seen), name="reload", daemon=True).start()


def _watch(directories: list[str], seen: dict[str, int]) -> None:
    while True:
        time.sleep(INTERVAL)
        now = dict(_times(directories))
        if now != seen:
            log_info(_changes(seen, now))
            seen = now
            os.kill(os.getpid(), signal.SIGHUP)


def _changes(seen: dict[str, int], now: dict[str, int]) -> str:
    """A line of the log that names the files which have changed, or the first of them."""
    first, *others = sorted(path for path in seen.keys() | now.keys() if seen.get(path) != now.get(path))
    more = f" and {len(others)} more" if others else ""
    return f"{os.path.relpath(first)}{more} changed: the process is replaced"


def _times(directories: list[str]) -> Iterator[tuple[str, int]]:
    """The files and the times of their last changes."""
    for directory in directories:
        for folder, folders, files in os.walk(directory):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    try:
                        yield path, os.stat(path).st_mtime_ns
                    except OSError:
                        # It was removed in this moment.
                        continue
