"""The asyncio loops on which ASGI applications run."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from gearshift._gearshift import Crossing
from gearshift.lifespan import Lifespan

# The share of the time for a stop in which tasks may end. The rest is for the stop of the application.
SHARE_OF_TASKS = 0.7
# The time in seconds that cancelled tasks have to end, at the stop of a loop.
CANCEL_TIMEOUT = 1.0


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

    def __init__(self, app: Any, options: dict[str, Any], *, has_crossing: bool) -> None:
        """Makes the loop and starts the application on it. Raises what Lifespan.start raises."""
        self.loop = new_loop(options["loop"])
        self.crossing = Crossing(options["stall_threshold"]) if has_crossing else None
        self._lifespan = Lifespan(app, options["lifespan"])
        self.loop.run_until_complete(self._lifespan.start())
        self.state = self._lifespan.state
        if self.crossing is not None:
            self.loop.add_reader(self.crossing.fileno(), self.crossing.drain)

    async def stop(self, grace: float) -> None:
        """Waits for the tasks of requests, and runs the stop of the application, within `grace` seconds."""
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=grace * SHARE_OF_TASKS)
        for task in self._tasks():
            task.cancel()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
        await self._lifespan.stop()

    def _tasks(self) -> set[asyncio.Task[Any]]:
        own = {asyncio.current_task(), self._lifespan.task}
        return {task for task in asyncio.all_tasks(self.loop) if task not in own}

    def close(self) -> None:
        """Closes the loop, which does not run any more."""
        try:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            # Threads of the default executor may be held for longer than the process should live.
            self.loop.run_until_complete(asyncio.wait_for(self.loop.shutdown_default_executor(), CANCEL_TIMEOUT))
        except Exception as error:
            print(f"warning: the event loop has left work behind: {error!r}", file=sys.stderr)
        finally:
            self.loop.close()
