"""Points the test client of Werkzeug, which Flask uses too, at a live server. A plugin of pytest.

`werkzeug.test.run_wsgi_app` calls the application itself. With this plugin it sends the request over a socket. Keys
of the environ that no request can carry are handed to the application beside the request. As before, the exceptions
of the application are raised in the test.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterable
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

import live
import werkzeug.test
from werkzeug.datastructures import Headers

# The keys that the server sets from the request and from its socket.
SERVERS = {
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME",
    "SERVER_PORT", "SERVER_PROTOCOL", "REQUEST_URI", "RAW_URI", "wsgi.version", "wsgi.url_scheme", "wsgi.input",
    "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once",
}  # fmt: skip


def extra_of(environ: dict[str, Any]) -> dict[str, Any]:
    """What the test has put in the environ that the server cannot know."""
    extra = {key: value for key, value in environ.items() if key not in SERVERS and not key.startswith("HTTP_")}
    if environ.get("SCRIPT_NAME"):
        extra |= {key: environ[key] for key in ("SCRIPT_NAME", "PATH_INFO")}
    if environ.get("wsgi.url_scheme", "http") != "http":
        extra |= {key: environ[key] for key in ("wsgi.url_scheme", "SERVER_PORT")}
    if environ.get("wsgi.errors") not in (None, sys.stderr):
        extra["wsgi.errors"] = environ["wsgi.errors"]
    return extra


def request_of(environ: dict[str, Any], call: live.Call) -> bytes:
    """The bytes of the request."""
    whole = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    path = quote(whole.encode("latin-1"), safe="/:@!$&'()*+,;=~") or "/"
    if environ.get("QUERY_STRING"):
        path += "?" + environ["QUERY_STRING"]
    fields = {key[5:].replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    fields.setdefault("HOST", environ.get("SERVER_NAME", "localhost"))
    fields |= {live.FIELD: call.name, "Connection": "close"}
    length = environ.get("CONTENT_LENGTH")
    body = environ["wsgi.input"].read(int(length)) if length else b""
    if environ.get("CONTENT_TYPE"):
        fields["Content-Type"] = environ["CONTENT_TYPE"]
    if length and (body or environ["REQUEST_METHOD"] not in ("GET", "HEAD")):
        fields["Content-Length"] = length
    lines = [f"{environ['REQUEST_METHOD']} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def run_wsgi_app(app: Any, environ: Any, buffered: bool = False) -> tuple[Iterable[bytes], str, Headers]:
    """Sends the request, and returns the body, the status and the fields of the response."""
    if threading.current_thread() is not threading.main_thread():
        # An application itself makes a response from another application.
        return _in_memory(app, environ, buffered)
    environ = werkzeug.test._get_environ(environ).copy()
    call = live.Call(app, extra_of(environ))
    with socket.create_connection(live.server("wsgi").address, live.TIMEOUT) as connection:
        connection.sendall(request_of(environ, call))
        response = HTTPResponse(connection, method=environ["REQUEST_METHOD"])
        try:
            response.begin()
            body = response.read()
        except HTTPException:
            call.raise_error()
            raise
    call.raise_error()
    own = {"date": None, "connection": None, "server": ("gearshift", "waitress")}
    fields = Headers()
    for name, value in response.getheaders():
        values = own.get(name.lower(), ())
        if values is not None and value not in values:
            fields.add(name, value)
    return [body], f"{response.status} {response.reason}", fields


_in_memory = werkzeug.test.run_wsgi_app
werkzeug.test.run_wsgi_app = run_wsgi_app
