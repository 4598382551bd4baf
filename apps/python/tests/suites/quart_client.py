"""Points the test client of Quart at a live server. A plugin of pytest."""

from __future__ import annotations

import asyncio
from typing import Any

import bridge
from quart.testing import client, connections


async def __aenter__(self: Any) -> Any:
    application = bridge.through(self.app)
    self._task = asyncio.ensure_future(application(self.scope, self._asgi_receive, self._asgi_send))
    return self


for kind in (connections.TestHTTPConnection, connections.TestWebsocketConnection):
    kind.__aenter__ = __aenter__

assert client.QuartClient.http_connection_class is connections.TestHTTPConnection
