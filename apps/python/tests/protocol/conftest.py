"""Fixtures of the tests of the interfaces: a server with the raw application of each interface."""

from __future__ import annotations

import pytest
from serving import Server, Servers


@pytest.fixture
def wsgi(serve_shared: Servers) -> Server:
    """A server with the raw WSGI application."""
    return serve_shared.shared("apps_wsgi:app", interface="wsgi")


@pytest.fixture
def asgi(serve_shared: Servers) -> Server:
    """A server with the raw ASGI application for HTTP."""
    return serve_shared.shared("apps_asgi:app")


@pytest.fixture
def websockets(serve_shared: Servers) -> Server:
    """A server with the raw ASGI application for WebSocket."""
    return serve_shared.shared("apps_websocket:app")
