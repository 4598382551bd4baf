"""The lifespan protocol of ASGI: the start and the stop of an application."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

from gearshift._gearshift import log_error
from gearshift.loading import summary


class StartError(Exception):
    """The application has not started. The text is one line."""


class Lifespan:
    """The lifespan of an application on one event loop. `mode` is `auto`, `on` or `off`."""

    def __init__(self, app: Any, mode: str) -> None:
        self._app = app
        self._mode = mode
        self._messages: asyncio.Queue[dict[str, Any]] | None = None
        self._reply: asyncio.Future[tuple[str, str]] | None = None
        self.task: asyncio.Task[None] | None = None
        self._has_started = False
        # The state that each request gets a copy of; None if the application has no lifespan.
        self.state: dict[str, Any] | None = None

    async def start(self) -> None:
        """Runs the start. Raises StartError if the application reports that it has failed."""
        if self._mode == "off":
            return
        self._messages = asyncio.Queue()
        self.state = {}
        self.task = asyncio.get_running_loop().create_task(self._run(self.state))
        kind, text = await self._ask("lifespan.startup")
        if kind == "complete":
            return
        self.state = None
        if kind == "failed":
            await asyncio.wait([self.task])
            raise StartError(self._reason(text, "startup"))
        # The application does not know the protocol.
        self.task = None

    async def stop(self) -> None:
        """Runs the stop. A failure is logged, because the process ends in each case."""
        if self.task is None:
            return
        if not self.task.done():
            kind, text = await self._ask("lifespan.shutdown")
            if kind == "failed":
                log_error(f"the application did not stop: {self._reason(text, 'shutdown')}")
            if not self.task.done():
                await asyncio.wait([self.task])

    def forget(self) -> None:
        """Keeps asyncio from logging the exception of a start that has ended."""
        if self.task is not None and self.task.done() and not self.task.cancelled():
            self.task.exception()

    def _reason(self, text: str, phase: str) -> str:
        """Why the application has failed, in one line. A longer text, such as a traceback, is logged before."""
        lines = text.strip().splitlines()
        if len(lines) > 1:
            log_error(f"the application has sent lifespan.{phase}.failed:\n{text}")
        return lines[-1] if lines else f"it has sent lifespan.{phase}.failed without a message"

    async def _ask(self, kind: str) -> tuple[str, str]:
        self._reply = asyncio.get_running_loop().create_future()
        assert self._messages is not None
        self._messages.put_nowait({"type": kind})
        return await self._reply

    async def _run(self, state: dict[str, Any]) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        assert self._messages is not None
        try:
            await self._app(scope, self._messages.get, self._send)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                # A signal ends the loop.
                raise
            if isinstance(error, asyncio.CancelledError):
                self._answer("unsupported", "")
                raise
            # Without an answer to the start, the application does not know the protocol.
            is_fault = self._has_started or self._mode == "on"
            if is_fault:
                log_error(f"an exception in the lifespan of the application:\n{traceback.format_exc()}")
            self._answer("failed" if is_fault else "unsupported", summary(error))
        else:
            # It has returned without an answer.
            self._answer("complete", "")

    def _answer(self, kind: str, text: str) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result((kind, text))

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
            self._has_started = True
            self._answer("complete", "")
        elif kind in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            self._answer("failed", message.get("message", ""))
        else:
            raise RuntimeError(f"the lifespan protocol has no message {kind!r}")
