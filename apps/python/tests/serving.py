"""Servers as processes: how each is started, its log, its memory, and its end.

`GEARSHIFT_TEST_SERVER=uvicorn`, `gunicorn` or `waitress` runs the tests against that server instead. A test that passes
there asks for standard behaviour. A control server has the interfaces that it serves itself: `uvicorn` has no WSGI.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
from probe import DEADLINE, until

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples"
BACKENDS = ["sequential", "threadpool", "mio", "tokio", "async-std", "smol"]


@dataclass(frozen=True)
class Kind:
    """A kind of server."""

    command: list[str]
    """The module and its fixed flags."""
    ready: str
    """A regular expression of the line that says the server listens; the group `port` is its port."""
    interfaces: Mapping[str, list[str]]
    """The flags for each interface that the server has."""
    flags: Mapping[str, str] | None = None
    """The server's names for flags of gearshift; None if it has the same ones."""


KINDS = {
    "gearshift": Kind(
        command=["gearshift", "--bind=127.0.0.1:0"],
        ready=r"listening at (?P<scheme>https?)://[^ ]+:(?P<port>\d+) \(pid (?P<pid>\d+)\)",
        interfaces={"wsgi": [], "asgi": []},
    ),
    "uvicorn": Kind(
        command=["uvicorn", "--host=127.0.0.1", "--port=0", "--no-access-log"],
        ready=r"Uvicorn running on http://[^ ]+:(?P<port>\d+) ",
        interfaces={"asgi": []},
        flags={
            "--factory": "--factory",
            "--graceful-timeout": "--timeout-graceful-shutdown",
            "--lifespan": "--lifespan",
            "--root-path": "--root-path",
        },
    ),
    "gunicorn": Kind(
        command=["gunicorn", "--bind=127.0.0.1:0"],
        ready=r"Listening at: http://[^ ]+:(?P<port>\d+) \(\d+\)",
        interfaces={"wsgi": ["--worker-class=gthread", "--threads=8"], "asgi": ["--worker-class=asgi"]},
        flags={
            "--graceful-timeout": "--graceful-timeout",
            "--lifespan": "--asgi-lifespan",
            "--root-path": "--root-path",
        },
    ),
    "waitress": Kind(
        command=["waitress", "--listen=127.0.0.1:0"],
        ready=r"Serving on http://[^ ]+:(?P<port>\d+)",
        interfaces={"wsgi": []},
        flags={"--root-path": "--url-prefix"},
    ),
}

KIND = os.environ.get("GEARSHIFT_TEST_SERVER", "gearshift")
"""The kind of server that the tests run against."""


def backends() -> list[str]:
    """The backends to test: all of them, or those of GEARSHIFT_BACKENDS. A control server has none."""
    if KIND != "gearshift":
        return [KIND]
    chosen = os.environ.get("GEARSHIFT_BACKENDS", "").replace(",", " ").split() or BACKENDS
    if unknown := set(chosen) - set(BACKENDS):
        raise pytest.UsageError(f"GEARSHIFT_BACKENDS: unknown {', '.join(sorted(unknown))}")
    return chosen


def command(app: str, flags: Sequence[str], backend: str, interface: str) -> list[str]:
    """The command line for an application. Skips the test if a control server lacks a flag or the interface."""
    kind = KINDS[KIND]
    if interface not in kind.interfaces:
        pytest.skip(f"{KIND} has no {interface.upper()}")
    if kind.flags is None:
        flags = [f"--backend={backend}", *flags]
    else:
        if missing := {flag.partition("=")[0] for flag in flags} - kind.flags.keys():
            pytest.skip(f"{KIND} has no {', '.join(sorted(missing))}")
        flags = [kind.flags[name] + sign + value for name, sign, value in (flag.partition("=") for flag in flags)]
    return [sys.executable, "-m", *kind.command, *kind.interfaces[interface], *flags, app]


def environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a server: that of the tests, without settings of the server."""
    settings = re.compile("GEARSHIFT_|GUNICORN_|UVICORN_|WEB_CONCURRENCY")
    inherited = {name: value for name, value in os.environ.items() if not settings.match(name)}
    # The tests are on the path of the application, for `probe`.
    path = os.pathsep.join(filter(None, [str(TESTS), inherited.get("PYTHONPATH")]))
    return {**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(extra or {})}


class Server:
    """A process that was started as a server."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, expected_status: int = 0
    ) -> None:
        self.expected_status = expected_status
        self.port = 0
        self.pid = 0
        self.scheme = "http"
        self.lines: list[str] = []
        """Standard error and standard output so far."""
        self.process = subprocess.Popen(
            arguments,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def listen(self) -> Server:
        """Waits until the server listens."""
        until(lambda: self._find_port() or self.process.poll() is not None, f"the server listens:\n{self.log}")
        assert self.port, f"the server ended with {self.wait()} before it listened:\n{self.log}"
        return self

    @property
    def address(self) -> tuple[str, int]:
        """The address for a client."""
        return ("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        """The base URL of WebSocket connections, without a slash at the end."""
        return f"{self.scheme.replace('http', 'ws')}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """The log so far."""
        return "".join(self.lines)

    def wait_for_log(self, text: str) -> None:
        """Waits until the log contains a text."""
        until(lambda: text in self.log, f"{text!r} in the log:\n{self.log}")

    def peak_memory(self) -> int:
        """The largest resident size in bytes since `reset_peak_memory`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])

    def reset_peak_memory(self) -> int:
        """Makes the peak the present resident size, and returns it in bytes."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.peak_memory()

    def signal(self, number: int) -> None:
        """Sends a signal to the process that was started."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Waits until the process ends, and returns its status."""
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return status

    def stop(self, number: int = SIGTERM) -> tuple[int, str]:
        """Stops the server with a signal, and returns its status and its log. A server that does not end is killed."""
        if self.process.poll() is None:
            self.signal(number)
        try:
            return self.wait(), self.log
        except subprocess.TimeoutExpired:
            pytest.fail(f"the server did not stop:\n{self.log}")
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the server and all processes that it has started."""
        try:
            os.killpg(self.process.pid, SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def finish(self) -> None:
        """Stops the server unless it has ended, and checks the status. A control server is only killed."""
        if KIND != "gearshift":
            return self.kill()
        status, log = self.stop()
        assert status == self.expected_status, f"status {status}, expected {self.expected_status}; log:\n{log}"

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    def _find_port(self) -> int:
        if match := re.search(KINDS[KIND].ready, self.log):
            self.pid = int(match.groupdict().get("pid") or self.process.pid)
            self.scheme = match.groupdict().get("scheme") or "http"
            self.port = int(match["port"])
        return self.port


class Servers:
    """The servers of one test, or of one module."""

    def __init__(self, backend: str, cwd: Path) -> None:
        self.backend = backend
        self.cwd = cwd
        self._servers: list[Server] = []
        self._shared: dict[tuple[str, ...], Server] = {}

    def __call__(
        self,
        app: str,
        *flags: str,
        interface: str = "asgi",
        backend: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        status: int = 0,
    ) -> Server:
        """Starts `app` and waits until it listens. `status` is the one with which it must end.

        A flag with a value is one string, `--name=value`. A control server needs the `interface`; gearshift finds it.
        """
        return self.start(app, *flags, interface=interface, backend=backend, cwd=cwd, env=env, status=status).listen()

    def start(
        self,
        app: str,
        *flags: str,
        interface: str = "asgi",
        backend: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        status: int = 0,
    ) -> Server:
        """Starts `app`, and does not wait."""
        arguments = command(app, flags, backend or self.backend, interface)
        self._servers.append(Server(arguments, cwd or self.cwd, env, status))
        return self._servers[-1]

    def shared(self, app: str, *flags: str, interface: str = "asgi", cwd: Path | None = None) -> Server:
        """The server of an earlier call with the same arguments, or a new one."""
        key = (app, *flags)
        if key not in self._shared:
            self._shared[key] = self(app, *flags, interface=interface, cwd=cwd)
        server = self._shared[key]
        assert server.process.poll() is None, f"an earlier test ended the server:\n{server.log}"
        return server

    def finish(self) -> None:
        """Stops all servers and checks their statuses."""
        try:
            for server in self._servers:
                server.finish()
        finally:
            for server in self._servers:
                server.kill()

    def logs(self) -> str:
        """The last lines of each server."""
        return "\n".join("".join(server.lines[-80:]) for server in self._servers)
