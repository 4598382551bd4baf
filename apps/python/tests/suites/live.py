"""Gearshift in a thread of the test process, for application objects that live in it.

A suite of another project makes its applications inside its test functions, so no command line can name them. The
server serves the function `asgi` or `wsgi` of this module instead, which passes each call on to the application of
its request.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gearshift import _gearshift
from gearshift.process import Process

# The field of a request that names its `Call`. The application does not see it.
FIELD = "x-suite-call"
# The time in seconds after which a start, a stop or a call of an application counts as failed.
TIMEOUT = 5.0

BACKEND = os.environ.get("SUITE_BACKEND", "mio")


@dataclass
class Call:
    """An application that waits for one request, and how it ended."""

    app: Any
    # What the client of the suite sets in the scope or environ beside the request, such as a root path.
    extra: dict[str, Any] = field(default_factory=dict)
    started: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    name: str = ""

    def __post_init__(self) -> None:
        self.name = str(next(_numbers))
        _calls[self.name] = self

    def raise_error(self) -> None:
        """Waits for the end of the application, and raises its exception."""
        if not self.ended.wait(TIMEOUT if self.started.is_set() else 0):
            return
        _calls.pop(self.name, None)
        if self.error is not None:
            raise self.error


_numbers = itertools.count(1)
_calls: dict[str, Call] = {}
# The call for requests that name none.
_default: Call | None = None
# The number of requests that reached an application, for the report.
requests = 0


def set_default(app: Any, extra: dict[str, Any]) -> Call:
    """Makes `app` the application of all requests that name no call."""
    global _default
    _default = Call(app, extra)
    return _default


def set_direct(app: Any) -> None:
    """Makes `app` the application `direct` of this module, which gets the lifespan too."""
    global direct

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        global requests
        requests += scope["type"] != "lifespan"
        await app(scope, receive, send)

    direct = counted


direct: Any = None


def _call(name: str | None) -> Call:
    global requests
    requests += 1
    call = _calls[name] if name is not None else _default
    assert call is not None, "a request came without an application"
    call.started.set()
    return call


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Calls the application of the request."""
    if scope["type"] == "lifespan":
        raise RuntimeError("the clients of the suites run the lifespan")
    name = next((value.decode() for field, value in scope["headers"] if field == FIELD.encode()), None)
    call = _call(name)
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != FIELD.encode()]
    extra = dict(call.extra)
    if "state" in extra:
        extra["state"] = dict(extra["state"])
    scope.update(extra)
    try:
        await call.app(scope, receive, send)
    except BaseException as error:
        call.error = error
        raise
    finally:
        call.ended.set()


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Calls the application of the request."""
    call = _call(environ.pop("HTTP_" + FIELD.upper().replace("-", "_"), None))
    environ.update(call.extra)
    try:
        result = call.app(environ, start_response)
    except BaseException as error:
        call.error = error
        call.ended.set()
        raise
    if type(result) in (list, tuple):
        # The server may treat these in another way.
        call.ended.set()
        return result
    return _Iterable(result, call)


class _Iterable:
    """The iterable of an application, which reports its end."""

    def __init__(self, items: Any, call: Call) -> None:
        self._items = items
        self._call = call
        self._iterator: Any = None

    def __iter__(self) -> _Iterable:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._items)
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            self._call.error = error
            raise

    def close(self) -> None:
        try:
            if hasattr(self._items, "close"):
                self._items.close()
        except BaseException as error:
            self._call.error = error
            raise
        finally:
            self._call.ended.set()


class NoSignals:
    """What a server that runs beside the tests does with signals: nothing."""

    arrived: frozenset[int] = frozenset()

    def keep(self, order: Any) -> None:
        """Leaves the handlers alone."""

    def share(self) -> None:
        """Leaves the handlers alone."""

    def has_handler(self, number: int) -> bool:
        """No application has one."""
        return False


class InThread(Process):
    """The main thread of a serving process, run on another thread: it leaves the signals of Python alone."""

    def __init__(self) -> None:
        super().__init__()
        self._signals = NoSignals()
        self.bound = threading.Event()
        self.ready = threading.Event()
        self.addresses: list[Any] = []
        self.exits: list[BaseException] = []

    def configure(self, options: dict[str, Any]) -> None:
        self._options = options

    def run(self) -> int:
        while (order := self._orders.get()) is not None:
            order()
        return self._status

    def listening(self, addresses: list[tuple[str, int] | str], _: Any) -> None:
        self.addresses = addresses
        self.bound.set()

    def exit(self, error: BaseException) -> None:
        self.exits.append(error)

    def end(self, status: int, _: float) -> None:
        self._status = status
        self._orders.put(None)
        self._order(self._end_loop)
        # The server thread would end this process after its main thread.
        threading.Event().wait()


class Server:
    """Gearshift with these flags, from its start to `stop`. Only one runs at a time, because a signal stops it."""

    def __init__(self, interface: str, *flags: str, bind: str = "127.0.0.1:0", target: str | None = None) -> None:
        self.process = InThread()
        self.status: int | None = None
        target = target or f"{__name__}:{interface}"
        args = ["gearshift", "--backend", BACKEND, "--interface", interface, "--bind", bind, *flags, target]
        self._thread = threading.Thread(target=self._run, args=(args,), daemon=True)
        self._thread.start()
        while not self.process.bound.wait(0.05):
            if not self._thread.is_alive():
                raise RuntimeError(f"the server did not start: status {self.status}")
        self.address = self.process.addresses[0]

    def _run(self, args: list[str]) -> None:
        self.status = _gearshift.run(args, self.process)

    def stop(self) -> int | None:
        """Stops the server, and returns its exit status."""
        os.kill(os.getpid(), signal.SIGTERM)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the server did not stop"
        return self.status


class Uvicorn:
    """Uvicorn, to tell the faults of a server from the differences between a client in memory and sockets."""

    def __init__(self, *_: str) -> None:
        import uvicorn

        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._server = uvicorn.Server(uvicorn.Config(asgi, lifespan="off", ws="websockets-sansio"))
        run = self._server.run
        self._thread = threading.Thread(target=run, args=([self._listener],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(TIMEOUT)


class Waitress:
    """Waitress, for the same comparison with WSGI."""

    def __init__(self, *_: str) -> None:
        import waitress

        self._server = waitress.create_server(wsgi, host="127.0.0.1", port=0)
        self.address = (self._server.effective_host, self._server.effective_port)
        threading.Thread(target=self._server.run, daemon=True).start()

    def stop(self) -> None:
        self._server.close()


_servers: dict[tuple[str, ...], Any] = {}
_KINDS = {"uvicorn": Uvicorn, "waitress": Waitress}


def server(interface: str, *flags: str) -> Any:
    """The server with these flags, which runs until the end of the tests."""
    key = (interface, *flags)
    if key not in _servers:
        _servers[key] = _KINDS.get(BACKEND, Server)(interface, *flags)
    return _servers[key]


def stop_all() -> None:
    """Stops the servers of `server`."""
    for each in _servers.values():
        each.stop()
    _servers.clear()
