"""The main thread of a process that serves."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from gearshift import fork, loading, reload
from gearshift.asgi import EventLoop
from gearshift.lifespan import StartError


@dataclass
class Started:
    """An application that has started. `event_loop` and `new_event_loop` are for ASGI."""

    app: Any
    interface: str
    event_loop: EventLoop | None = None
    new_event_loop: Callable[[], EventLoop] | None = None


class Process:
    """Carries out what the server asks the main thread for.

    The server calls the methods that take a reply, and `end`, on its threads. They only queue an order. The main thread
    carries out the orders one after another. While it runs an asyncio loop, the loop does it.
    """

    def __init__(self) -> None:
        self._options: dict[str, Any] = {}
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._app: Any = None
        # The loop that runs on the main thread, and those of the threads of a blocking backend.
        self._main: EventLoop | None = None
        self._others: list[EventLoop] = []
        self._lock = threading.Lock()
        self._is_importing = False
        self._status = 1
        self._exit_status: int | None = None
        self._is_stopping: Callable[[], bool] = lambda: False

    def configure(self, options: dict[str, Any]) -> None:
        """Takes the settings of the command line. Called before the server handles signals."""
        self._options = options
        signal.signal(signal.SIGINT, self._interrupted)

    def supervise(self) -> None:
        """Prepares a process that only starts others: with --reload, changes of files send it SIGHUP."""
        if self._options["reload"]:
            # The process changes its directory before it finds modules; this one does not.
            default = os.path.join(self._options["chdir"] or "", self._options["app_dir"] or ".")
            reload.watch(self._options["reload_dirs"] or [default])

    def run(self) -> int:
        """Carries out orders until the server has ended. Returns the exit status."""
        while (order := self._orders.get()) is not None:
            try:
                order()
            except Exception:
                traceback.print_exc()
        return self._status if self._exit_status is None else self._exit_status

    def listening(self, addresses: list[tuple[str, int] | str], is_stopping: Callable[[], bool]) -> None:
        """Takes the addresses of the listeners, and whether a stop has begun, before the application starts."""
        self._is_stopping = is_stopping
        fork.close_sockets_after_fork(addresses)

    # The orders.

    def start_on_threads(self, reply: Any, _: float) -> None:
        """Starts the application for a backend whose threads block."""
        self._orders.put(lambda: self._start(reply, on_threads=True))

    def start_on_event_loop(self, reply: Any, _: float) -> None:
        """Starts the application for an event loop."""
        self._orders.put(lambda: self._start(reply, on_threads=False))

    def start_websockets(self, reply: Any, _: float) -> None:
        """Starts the loop for WebSockets, for a backend whose threads block."""
        self._order(lambda: self._start_websockets(reply))

    def stop(self, reply: Any, grace: float) -> None:
        """Stops the application within `grace` seconds."""
        self._order(lambda: self._stop(reply, grace))

    def end(self, status: int) -> None:
        """Ends the main thread."""
        self._status = status
        self._orders.put(None)
        self._order(self._end_loop)

    def exit(self, error: BaseException) -> None:
        """Ends the process after an exception of the application that asks for it. The first one has the status."""
        with self._lock:
            is_first = self._exit_status is None
            if is_first:
                self._exit_status = _status_of(error)
        # This process finishes its requests. With several processes, another one takes its place. A signal during a
        # stop would cut the requests.
        if is_first and not self._is_stopping():
            os.kill(os.getpid(), signal.SIGTERM)

    def _order(self, order: Callable[[], None]) -> None:
        with self._lock:
            main = self._main
            if main is None:
                self._orders.put(order)
                return
        try:
            main.loop.call_soon_threadsafe(order)
        except RuntimeError:
            # The loop was closed in this moment.
            self._orders.put(order)

    # On the main thread.

    def _start(self, reply: Any, *, on_threads: bool) -> None:
        try:
            started = self._started(on_threads)
        except loading.LoadError as error:
            reply.failed(str(error))
        except StartError as error:
            reply.failed(str(error))
        except BaseException as error:
            traceback.print_exc()
            reply.failed(f"the application could not be imported: {type(error).__name__}: {error}")
        else:
            if started.event_loop is not None and not on_threads:
                self._run_loop(started.event_loop, lambda: reply.ok(started))
            else:
                reply.ok(started)

    def _started(self, on_threads: bool) -> Started:
        options = self._options
        self._is_importing = True
        try:
            self._app = app = loading.load(
                options["app"],
                is_factory=options["factory"],
                app_dir=options["app_dir"],
                chdir=options["chdir"],
            )
        finally:
            self._is_importing = False
        interface = options["interface"]
        if interface == "auto":
            interface = loading.interface_of(app)
        if interface == "wsgi":
            return Started(app, interface)
        first = self._new_loop(has_crossing=not on_threads)
        return Started(app, interface, first, lambda: self._new_loop(has_crossing=False))

    def _new_loop(self, *, has_crossing: bool) -> EventLoop:
        event_loop = EventLoop(self._app, self._options, has_crossing=has_crossing)
        if not has_crossing:
            with self._lock:
                self._others.append(event_loop)
        return event_loop

    def _start_websockets(self, reply: Any) -> None:
        if self._main is not None:
            reply.ok(self._main)
            return
        try:
            event_loop = self._new_loop(has_crossing=True)
        except BaseException as error:
            traceback.print_exc()
            reply.failed(f"{type(error).__name__}: {error}")
            return
        self._run_loop(event_loop, lambda: reply.ok(event_loop))

    def _run_loop(self, event_loop: EventLoop, started: Callable[[], None]) -> None:
        with self._lock:
            self._main = event_loop
            waiting = self._take_orders()
        event_loop.loop.call_soon(started)
        for order in waiting:
            event_loop.loop.call_soon(order)
        try:
            event_loop.run(self.exit)
        finally:
            with self._lock:
                self._main = None
            event_loop.close()

    def _take_orders(self) -> list[Callable[[], None]]:
        """The orders that came while the loop was made. The order to end stays."""
        orders = []
        while not self._orders.empty():
            if (order := self._orders.get()) is None:
                self._orders.put(None)
                break
            orders.append(order)
        return orders

    def _end_loop(self) -> None:
        if self._main is not None:
            self._main.end()

    def _stop(self, reply: Any, grace: float) -> None:
        main = self._main
        if main is None:
            self._stop_others(reply, grace)
            return

        async def stop() -> None:
            try:
                await main.stop(grace)
            finally:
                main.end()

        self._orders.put(lambda: self._stop_others(reply, grace))
        self._stopping = main.loop.create_task(stop())

    def _stop_others(self, reply: Any, grace: float) -> None:
        end = time.monotonic() + grace
        try:
            for event_loop in self._others:
                if event_loop.loop.is_running():
                    # A request that was cut holds it.
                    continue
                event_loop.complete(event_loop.stop(max(0, end - time.monotonic())), self.exit)
                event_loop.close()
        finally:
            reply.ok(None)

    def _interrupted(self, *_: Any) -> None:
        # The server handles the signal too. Only an import has to be ended by an exception.
        if self._is_importing:
            raise KeyboardInterrupt


def _status_of(error: BaseException) -> int:
    """The exit status that an exception asks for, as Python has it."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    return 130
