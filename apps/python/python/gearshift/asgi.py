"""The asyncio loops on which ASGI applications run."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from gearshift._gearshift import Crossing, log_error, log_exit_of
from gearshift.lifespan import Lifespan

try:
    # anyio takes the task with this callback for the root of its loop, which its threads belong to. Without a root,
    # they belong to the request that has started them, and end with it.
    from asyncio.base_events import _run_until_complete_cb
except ImportError:
    _run_until_complete_cb = None

# The share of the time for a stop in which requests may end. The rest is for the stop of the application.
SHARE_OF_REQUESTS = 0.7
# The time in seconds that cancelled tasks, and the stop of the application after the grace period, have at least.
CANCEL_TIMEOUT = 1.0
# The failures of a loop after which the process ends. A loop fails only if the application changes its insides.
MAX_FAILURES = 10


async def run(app: Any, scope: dict[str, Any], exchange: Any) -> None:
    """Calls the application for one request, and reports how it has ended."""
    try:
        await app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        exchange.failed(error)
    else:
        exchange.ended()


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A loop of the kind `auto`, `asyncio` or `uvloop`. Raises ModuleNotFoundError if uvloop is not installed."""
    if kind != "asyncio":
        try:
            import uvloop
        except ModuleNotFoundError:
            if kind == "uvloop":
                raise
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


class EventLoop:
    """An asyncio loop with the lifespan of the application. With a crossing, requests come from other threads."""

    _has_told_stop = False

    def __init__(self, app: Any, options: dict[str, Any], *, has_crossing: bool) -> None:
        """Makes the loop and starts the application on it. Raises what Lifespan.start raises."""
        self.loop = new_loop(options["loop"])
        self._stop = self.loop.stop
        self.crossing = Crossing(self.loop.call_soon, options["stall_threshold"]) if has_crossing else None
        self._lifespan = Lifespan(app, options["lifespan"])
        self._root: asyncio.Task[None] | None = None
        try:
            self.loop.run_until_complete(self._start())
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                # The signal was handled in a task, whose exception is no news, or it has stopped the loop.
                self._lifespan.forget()
                with contextlib.suppress(RuntimeError):
                    self.loop.run_until_complete(asyncio.sleep(0))
            self.close()
            raise
        self.state = self._lifespan.state
        self._is_over = False
        if self.crossing is not None:
            self.loop.add_reader(self.crossing.fileno(), self.crossing.wake)

    async def _start(self) -> None:
        # The loop has set them for this thread.
        self.asyncgen_hooks = tuple(sys.get_asyncgen_hooks())
        await self._lifespan.start()
        self._root = asyncio.Task(_forever(), loop=self.loop, name="gearshift")
        if _run_until_complete_cb is not None:
            self._root.add_done_callback(_run_until_complete_cb)

    def run(self, exit: Callable[[BaseException], None]) -> None:
        """Runs the loop until `end` is called, also if the application stops it.

        Calls `exit` with SystemExit and KeyboardInterrupt, which stop a loop if a task of the application raises them,
        and with the exception of a loop that is closed or has failed MAX_FAILURES times, which is raised then.
        """
        failures = 0
        while not self._is_over:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                log_exit_of("the asyncio loop", error)
                exit(error)
            except Exception as error:
                log_error(f"the asyncio loop has failed:\n{traceback.format_exc()}")
                failures += 1
                if failures == MAX_FAILURES or self.loop.is_closed():
                    exit(error)
                    raise

    def watch_stops(self) -> None:
        """Logs a stop of the loop by the application, which calls `loop.stop`, once in this process."""

        def stop() -> None:
            if not EventLoop._has_told_stop:
                EventLoop._has_told_stop = True
                print("warning: the application has stopped an asyncio loop of the server, which runs on", file=sys.stderr)
            self._stop()

        self.loop.stop = stop  # type: ignore[method-assign]

    def end(self) -> None:
        """Ends `run`. Called on the loop."""
        self._is_over = True
        self._stop()

    def complete(self, coroutine: Coroutine[Any, Any, None], exit: Callable[[BaseException], None]) -> None:
        """Runs the loop until the coroutine has ended. Returns at once if `end` was called before."""
        asyncio.Task(coroutine, loop=self.loop).add_done_callback(lambda _: self.end())
        self.run(exit)

    async def stop(self, grace: float) -> None:
        """Waits for the tasks of requests, and runs the stop of the application, within `grace` seconds."""
        end = self.loop.time() + grace
        if requests := self._requests():
            await asyncio.wait(requests, timeout=grace * SHARE_OF_REQUESTS)
        await _cancel(self._requests())
        try:
            await asyncio.wait_for(self._lifespan.stop(), max(CANCEL_TIMEOUT, end - self.loop.time()))
        except asyncio.TimeoutError:
            print("error: the application has not stopped in time", file=sys.stderr)
        self._forget_root()
        await _cancel(asyncio.all_tasks(self.loop) - {asyncio.current_task()})

    def _forget_root(self) -> None:
        """The end of the root task does not stop the loop from now on."""
        if self._root is not None:
            self._root.remove_done_callback(_run_until_complete_cb)

    def _requests(self) -> set[asyncio.Task[Any]]:
        """The tasks of requests. Others belong to the application, which may end them in its stop."""
        tasks = asyncio.all_tasks(self.loop)
        return {task for task in tasks if getattr(task.get_coro(), "cr_code", None) is run.__code__}

    def close(self) -> None:
        """Closes the loop, which does not run any more."""
        # asyncio calls it to return.
        for name in ("stop", "is_running", "call_soon_threadsafe"):
            self.loop.__dict__.pop(name, None)
        self._forget_root()
        try:
            # After a forced stop there are tasks.
            self.loop.run_until_complete(_cancel(asyncio.all_tasks(self.loop)))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            # Threads of the default executor may be held for longer than the process should live.
            self.loop.run_until_complete(asyncio.wait_for(self.loop.shutdown_default_executor(), CANCEL_TIMEOUT))
        except Exception as error:
            print(f"warning: the event loop has left work behind: {error!r}", file=sys.stderr)
        finally:
            self.loop.close()


async def _forever() -> None:
    """The root task of a loop, which ends when it is cancelled."""
    await asyncio.get_running_loop().create_future()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
