"""The main thread of a process that serves."""

from __future__ import annotations

import _thread
import asyncio
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
from gearshift._gearshift import log_error, log_exit_of
from gearshift.asgi import EventLoop
from gearshift.lifespan import StartError
from gearshift.signals import Signals

# The time in seconds after which the exit tells what it waits for.
EXIT_NOTICE = 1.0


@dataclass
class Started:
    """An application that has started. `event_loop` and `new_event_loop` are for ASGI."""

    app: Any
    interface: str
    event_loop: EventLoop | None = None
    new_event_loop: Callable[[], EventLoop] | None = None


class StartGivenUp(KeyboardInterrupt):
    """A stop is requested while the application starts."""


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
        # A handler of a signal may take it on the main thread, which may hold it.
        self._lock = threading.RLock()
        self._signals = Signals(self._signalled, self._note_exit)
        # Whether a signal ends the start of the application with an exception.
        self._is_starting = False
        self._is_given_up = False
        # The reply that the server expects for a start that was given up.
        self._unanswered: Any = None
        self._has_ended = False
        self._status = 1
        self._exit_status: int | None = None
        self._is_stopping: Callable[[], bool] = lambda: False

    def configure(self, options: dict[str, Any]) -> None:
        """Takes the settings of the command line. Called before the server handles signals."""
        self._options = options
        self._signals.take()

    def supervise(self) -> None:
        """Prepares a process that only starts others: with --reload, changes of files send it SIGHUP."""
        if self._options["reload"]:
            # The process changes its directory before it finds modules; this one does not.
            default = os.path.join(self._options["chdir"] or "", self._options["app_dir"] or ".")
            reload.watch(self._options["reload_dirs"] or [default])

    def run(self) -> int:
        """Carries out orders until the server has ended. Returns the exit status."""
        is_over = False
        while not is_over:
            try:
                if (order := self._orders.get()) is None:
                    is_over = True
                else:
                    order()
            except (SystemExit, KeyboardInterrupt) as error:
                # A handler of a signal has raised it.
                log_exit_of("the main thread", error)
                self.exit(error)
            except Exception:
                traceback.print_exc()
        self._has_ended = True
        return self._exit_with()

    def _exit_with(self) -> int:
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

    def stopping(self) -> None:
        """The server stops. A supervisor tells it to its processes without a signal."""
        is_told = not self._options["is_supervised"] or signal.SIGTERM in self._signals.arrived
        if not is_told and self._signals.has_handler(signal.SIGTERM):
            _thread.interrupt_main(signal.SIGTERM)
        # The main thread wakes up, and calls the handlers of signals that the system has given to another thread.
        self._order(lambda: None)

    def give_up_start(self) -> None:
        """Ends the start of the application, because the server has stopped without it."""
        self._is_given_up = True
        if self._is_starting and self._options["is_supervised"]:
            # The supervisor has sent no signal. The server of a supervised process does not handle this one.
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)

    def end(self, status: int, exit_timeout: float) -> None:
        """Ends the main thread. The process ends after `exit_timeout` seconds, also if it is held."""
        self._status = status
        threading.Thread(target=self._limit_exit, args=(exit_timeout,), name="exit", daemon=True).start()
        self._orders.put(None)
        self._order(self._end_loop)

    def exit(self, error: BaseException) -> None:
        """Ends the process after an exception of the application that asks for it. The first one has the status."""
        # This process finishes its requests. With several processes, another one takes its place. A second signal would
        # cut the requests.
        if self._note_exit(error) and not self._is_told():
            os.kill(os.getpid(), signal.SIGTERM)

    def _note_exit(self, error: BaseException) -> bool:
        """Keeps the status of the first exception that asks for the end of the process. Returns whether this is it."""
        with self._lock:
            is_first = self._exit_status is None
            if is_first:
                self._exit_status = _status_of(error)
        return is_first

    def _is_told(self) -> bool:
        """Whether the server has been told to stop, or the supervisor to replace the process."""
        numbers = {signal.SIGTERM, *self._numbers_of_stop()}
        return self._is_stopping() or not numbers.isdisjoint(self._signals.arrived)

    def _numbers_of_stop(self) -> set[int]:
        """The signals that stop the server. In a process of a supervisor, only the supervisor stops it."""
        return set() if self._options["is_supervised"] else {signal.SIGTERM, signal.SIGINT}

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
        self._signals.keep(self._order)
        try:
            self._is_starting = True
            try:
                started = self._started(on_threads)
            finally:
                self._is_starting = False
        except StartGivenUp:
            # The server may learn of the signal later than Python, and takes a reply that is dropped for a failure.
            self._unanswered = reply
        except loading.LoadError as error:
            reply.failed(str(error))
        except StartError as error:
            reply.failed(str(error))
        except BaseException as error:
            log_error(traceback.format_exc())
            reply.failed(f"it could not be imported: {loading.summary(error)}")
        else:
            if started.event_loop is not None and not on_threads:
                self._run_loop(started.event_loop, lambda: reply.ok(started))
            else:
                reply.ok(started)

    def _started(self, on_threads: bool) -> Started:
        options = self._options
        self._app = app = loading.load(
            options["app"],
            is_factory=options["factory"],
            app_dir=options["app_dir"],
            chdir=options["chdir"],
        )
        self._signals.share()
        interface = loading.chosen_interface(app, options["interface"], options["lifespan"])
        if interface == "wsgi":
            return Started(app, interface)
        first = self._new_loop(has_crossing=not on_threads)
        self._signals.share()
        return Started(app, interface, first, lambda: self._new_loop(has_crossing=False))

    def _new_loop(self, *, has_crossing: bool) -> EventLoop:
        event_loop = EventLoop(self._app, self._options, has_crossing=has_crossing)
        if not has_crossing:
            with self._lock:
                # The application may close loops.
                self._others = [other for other in self._others if not other.loop.is_closed()]
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
        self._stopping = asyncio.Task(stop(), loop=main.loop)

    def _stop_others(self, reply: Any, grace: float) -> None:
        end = time.monotonic() + grace
        try:
            for event_loop in self._others:
                if event_loop.loop.is_running() or event_loop.loop.is_closed():
                    # A request that was cut holds it, or the application has closed it.
                    continue
                event_loop.complete(event_loop.stop(max(0, end - time.monotonic())), self.exit)
                event_loop.close()
        finally:
            reply.ok(None)

    def _limit_exit(self, timeout: float) -> None:
        """Ends the process after `timeout` seconds, and tells before that what it waits for."""
        time.sleep(min(timeout, EXIT_NOTICE))
        rest = max(0.0, timeout - EXIT_NOTICE)
        within = f"in {rest:.0f} s, or at the next signal, without" if rest >= 1 else "without"
        print(f"warning: the process ends {within} {self._what_is_left()}", file=sys.stderr)
        time.sleep(rest)
        status = self._exit_with()
        leave(status if self._has_ended or self._is_given_up else max(status, 1))

    def _what_is_left(self) -> str:
        if self._is_given_up:
            return "the start of the application, which has not ended"
        if not self._has_ended:
            return "the stop of the application, which has not ended"
        threads = [thread for thread in threading.enumerate() if not thread.daemon]
        names = ", ".join(repr(thread.name) for thread in threads if thread is not threading.main_thread())
        return f"threads that have not ended: {names}" if names else "exit handlers that have not ended"

    def _signalled(self, number: int) -> None:
        """Called after each signal, which the server handles too."""
        if self._has_ended:
            # The user does not wait for threads and exit handlers of the application.
            leave(self._exit_with())
        if self._is_starting and (self._is_given_up or number in self._numbers_of_stop()):
            self._is_starting = False
            raise StartGivenUp


def leave(status: int) -> None:
    """Ends the process without the end of the interpreter, for which threads that run Python would be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status_of(error: BaseException) -> int:
    """The exit status for an exception that ends the process, as Python has it."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    return 130 if isinstance(error, KeyboardInterrupt) else 1
