"""SIGTERM and SIGINT, which the server and the application handle both.

The handler of the server is one of the system, so that a stop begins also while the main thread is held. It calls the
handler of Python. An application that sets a handler in Python replaces the handler of the system with it. The server
would not learn of the signal any more. This module finds such a handler, and puts that of the system back.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGINT)
# The time between two looks at the handlers, in seconds.
INTERVAL = 1.0
# More bytes than a `struct sigaction` has on any system.
ACTION_SIZE = 1024

# What signal.signal takes and returns.
Handler = Any


class Chained:
    """The handler of an application in Python, and after it that of the server."""

    def __init__(self, handler: Callable[[int, Any], Any], signals: Signals) -> None:
        self.handler = handler
        self._signals = signals

    def __call__(self, number: int, frame: Any) -> None:
        try:
            self.handler(number, frame)
        except SystemExit as error:
            self._signals.on_exit(error)
        except KeyboardInterrupt:
            # The server stops.
            pass
        except Exception:
            traceback.print_exc()
        self._signals.handle(number, frame)


class SystemHandlers:
    """The handlers of the system that the server has set. Raises ImportError or AttributeError where it cannot work."""

    def __init__(self) -> None:
        import ctypes

        self._sigaction = ctypes.CDLL(None).sigaction
        self._new_buffer = functools.partial(ctypes.create_string_buffer, ACTION_SIZE)
        for number in NUMBERS:
            # Otherwise a wait of the main thread for a lock would delay the handler of Python.
            signal.siginterrupt(number, True)
        self._actions = {number: self._present(number) for number in NUMBERS}

    def put_back(self, number: int) -> None:
        """Sets the handler of the server, unless it is set."""
        if self._present(number) != self._actions[number]:
            self._sigaction(number, self._actions[number], None)

    def _present(self, number: int) -> bytes:
        buffer = self._new_buffer()
        self._sigaction(number, None, buffer)
        return buffer.raw


class Signals:
    """The handlers of this process. The methods without another note are for the main thread."""

    def __init__(self, on_signal: Callable[[int], None], on_exit: Callable[[SystemExit], None]) -> None:
        """`on_signal` is called after each signal, and `on_exit` with a SystemExit of the application's handler."""
        self._on_signal = on_signal
        self.on_exit = on_exit
        self._system: SystemHandlers | None = None
        self._has_told: set[int] = set()
        # The signals that have arrived.
        self.arrived: set[int] = set()

    def take(self) -> None:
        """Sets the handlers of Python, before the server sets those of the system."""
        for number in NUMBERS:
            signal.signal(number, self.handle)
        os.register_at_fork(after_in_child=self._release)

    def keep(self, order: Callable[[Callable[[], None]], None]) -> None:
        """Keeps the handlers that the server has set. `order` lets the main thread call a function."""
        try:
            self._system = SystemHandlers()
        except (ImportError, AttributeError):
            # `share` tells it if it matters.
            return
        threading.Thread(target=self._watch, args=(self._system, order), name="signals", daemon=True).start()

    def share(self) -> None:
        """Lets the server and the application both handle the signals for which the application has set a handler."""
        for number in NUMBERS:
            handler = signal.getsignal(number)
            if not self._is_ours(handler):
                if handler == signal.SIG_IGN:
                    self._warn(number, f"the application ignores {_name(number)}; the server stops on it nevertheless")
                is_chained = callable(handler) and handler is not signal.default_int_handler
                signal.signal(number, Chained(handler, self) if is_chained else self.handle)
                if self._system is None:
                    self._warn(number, f"the application handles {_name(number)}; the server does not stop on it")
            if self._system is not None:
                self._system.put_back(number)

    def has_handler(self, number: int) -> bool:
        """Whether the application has set a handler. For any thread."""
        return isinstance(signal.getsignal(number), Chained)

    def handle(self, number: int, _: Any) -> None:
        """The handler of Python, unless the application has set one."""
        self.arrived.add(number)
        self._on_signal(number)

    def _is_ours(self, handler: Handler) -> bool:
        return isinstance(handler, Chained) or handler == self.handle

    def _watch(self, system: SystemHandlers, order: Callable[[Callable[[], None]], None]) -> None:
        while True:
            time.sleep(INTERVAL)
            for number in NUMBERS:
                # The server learns of the signal also if the main thread is held.
                system.put_back(number)
            if not all(self._is_ours(signal.getsignal(number)) for number in NUMBERS):
                order(self.share)

    def _warn(self, number: int, text: str) -> None:
        if number not in self._has_told:
            self._has_told.add(number)
            print(f"warning: {text}", file=sys.stderr)

    def _release(self) -> None:
        """In a process that the application has forked, no server handles signals."""
        for number in NUMBERS:
            handler = signal.getsignal(number)
            if isinstance(handler, Chained):
                signal.signal(number, handler.handler)
            elif handler == self.handle:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _name(number: int) -> str:
    return signal.Signals(number).name
