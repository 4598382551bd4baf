"""Runs tests of Django with a live server: `python django_tests.py RUNTESTS_PY ARGUMENTS...`.

`LiveServerTestCase` starts a server of Django for its tests; here it starts Gearshift with WSGI.
`ApplicationCommunicator`, with which the tests of ASGI call an application, sends requests over a socket.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import unittest
from collections import Counter
from typing import Any

import asgiref.testing
import bridge
import live

_counts: Counter[str] = Counter()
_communicator = asgiref.testing.ApplicationCommunicator.__init__
_run = unittest.TestCase.run


def _init(self: Any, application: Any, scope: Any) -> None:
    _communicator(self, application, scope)
    self.application = bridge.through(self.application)


class Httpd:
    """The server of a `LiveServerThread`."""

    def __init__(self, connections_override: Any) -> None:
        self._connections_override = connections_override or {}
        self._is_over = threading.Event()
        self.server_address = live.server("wsgi").address

    def set_app(self, app: Any) -> None:
        from django.db import connections

        def with_connections(environ: Any, start_response: Any) -> Any:
            for alias, connection in self._connections_override.items():
                connections[alias] = connection
            return app(environ, start_response)

        live.set_default(with_connections, {})

    def serve_forever(self) -> None:
        self._is_over.wait()

    def shutdown(self) -> None:
        self._is_over.set()

    def server_close(self) -> None:
        pass


def _counted(self: Any, result: Any = None) -> Any:
    before, failed = live.requests, len(result.failures) + len(result.errors)
    ended = _run(self, result)
    is_passed = len(result.failures) + len(result.errors) == failed
    kind = "live" if live.requests > before else "other"
    _counts[f"{kind} {'passed' if is_passed else 'failed'}"] += 1
    if not is_passed:
        print(f"  {kind} {self.id()}", file=sys.stderr)
    return ended


def main() -> None:
    sys.argv = sys.argv[1:]
    sys.path.insert(1, os.path.dirname(os.path.abspath(sys.argv[0])))
    if live.BACKEND != "control":
        from django.test import testcases

        asgiref.testing.ApplicationCommunicator.__init__ = _init
        testcases.LiveServerThread._create_server = lambda self, connections_override=None: Httpd(connections_override)
    unittest.TestCase.run = _counted
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        counts = ", ".join(f"{kind} {number}" for kind, number in sorted(_counts.items()))
        print(f"{live.BACKEND}: {counts}; {live.requests} requests", file=sys.stderr)


if __name__ == "__main__":
    main()
