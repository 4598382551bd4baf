"""A raw WSGI application with a view for each question of the tests."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs
from wsgiref.validate import validator

from files import File, OnlyRead, file_content
from probe import Probe
from reading import results

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
View = Callable[[Environ, StartResponse], Iterable[bytes]]

VIEWS: dict[str, View] = {}
TEXT = [("Content-Type", "text/plain")]


def view(function: View) -> View:
    """Adds a view; its path is its name."""
    VIEWS[function.__name__] = function
    return function


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Calls the view that the first segment of the path names."""
    name = environ["PATH_INFO"].split("/", 2)[1] if environ["PATH_INFO"].startswith("/") else ""
    if name not in VIEWS:
        start_response("404 Not Found", [*TEXT, ("Content-Length", "0")])
        return []
    return VIEWS[name](environ, start_response)


_validated = validator(app)


def validated(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The application behind the validator, which takes any arguments and so does not tell its interface."""
    return _validated(environ, start_response)


def argument(environ: Environ, name: str, default: str = "") -> str:
    """A parameter of the query string."""
    return parse_qs(environ["QUERY_STRING"]).get(name, [default])[0]


def probe_of(environ: Environ) -> Probe:
    """The probe of the request."""
    return Probe.of(environ["QUERY_STRING"])


def json_body(start_response: StartResponse, value: object) -> list[bytes]:
    """A response with a value of JSON."""
    body = json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class Tracked:
    """An iterable that records the end of each item and each call of `close`, with the thread."""

    def __init__(self, probe: Probe, items: Iterable[bytes]) -> None:
        self.probe = probe
        self.items = iter(items)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        item = next(self.items)
        self.probe.record("item", thread=threading.get_ident())
        return item

    def close(self) -> None:
        self.probe.record("close", thread=threading.get_ident())


# The request


@view
def environ(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The environ, as the types and the values of all keys."""
    described = {
        key: [type(value).__name__, value if isinstance(value, (str, bool, tuple)) else None]
        for key, value in environ.items()
    }
    return json_body(start_response, {"type": type(environ).__name__, "keys": described})


@view
def changes_environ(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Whether an earlier request has left a key, which this request leaves in its environ."""
    seen = "test.left" in environ
    environ["test.left"] = True
    environ["HTTP_HOST"] = "changed"
    return json_body(start_response, seen)


@view
def reads(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The results of the calls of `wsgi.input` that the parameter `calls` lists, as lengths and digests."""
    return json_body(start_response, results(environ["wsgi.input"], json.loads(argument(environ, "calls"))))


@view
def pieces(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Reads the body in pieces, and records each; an error of the stream is recorded and raised."""
    probe, size = probe_of(environ), int(argument(environ, "size", "1000"))
    try:
        while piece := environ["wsgi.input"].read(size):
            probe.record("piece", size=len(piece))
    except Exception as error:
        probe.record("error", type=type(error).__name__, bases=[base.__name__ for base in type(error).__mro__])
        raise
    probe.record("end")
    return json_body(start_response, True)


@view
def slow_reader(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Reads the body after the test has opened the gate `read`."""
    probe = probe_of(environ)
    probe.record("called")
    probe.pass_gate("read")
    size = 0
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
    return json_body(start_response, size)


# The head of the response


@view
def head(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Starts with the status and fields of the parameter `start`, a Python literal, and records the error."""
    probe = probe_of(environ)
    status, fields = literal_eval(argument(environ, "start"))
    try:
        start_response(status, fields)
    except Exception as error:
        probe.record("error", type=type(error).__name__)
        raise
    probe.record("started")
    return [b"body"]


@view
def status(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The status of the parameter `line`, without fields, and a body of no item."""
    start_response(argument(environ, "line"), [])
    return []


@view
def writes(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Writes two pieces with a gate between them, and returns a third one."""
    probe = probe_of(environ)
    write = start_response("200 OK", TEXT)
    write(b"one,")
    probe.pass_gate("two")
    write(b"two,")
    return [b"three"]


@view
def lazy_start(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Calls `start_response` when the first item is asked for."""
    start_response("200 OK", TEXT)
    yield b"late"


@view
def replaced_head(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Replaces the head before it was sent, after an empty item."""
    start_response("200 OK", [*TEXT, ("X-First", "1")])
    yield b""
    try:
        raise ValueError("replaced")
    except ValueError:
        start_response("503 Service Unavailable", [*TEXT, ("X-Second", "2")], sys.exc_info())
    yield b"error page"


@view
def late_head(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Tries to replace the head after it was sent."""
    probe = probe_of(environ)
    write = start_response("200 OK", TEXT)
    write(b"part")
    try:
        raise ValueError("the original error")
    except ValueError as original:
        try:
            start_response("500 Oops", TEXT, sys.exc_info())
        except Exception as error:
            probe.record("error", type=type(error).__name__, same=error is original)
            raise
    probe.record("no error")
    return [b"never"]


@view
def two_heads(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Calls `start_response` twice without `exc_info`."""
    probe = probe_of(environ)
    start_response("200 OK", TEXT)
    try:
        start_response("201 Created", TEXT)
    except Exception as error:
        probe.record("error", type=type(error).__name__)
        return [b"the first head"]
    probe.record("no error")
    return [b"the second head"]


@view
def no_head(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Calls no `start_response`."""
    return Tracked(probe_of(environ), [b"body"])


# The body of the response


@view
def body(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The items of the parameter `items`, a Python literal, with the length of the parameter `length` if it has one."""
    length = argument(environ, "length")
    start_response("200 OK", TEXT + ([("Content-Length", length)] if length else []))
    return Tracked(probe_of(environ), literal_eval(argument(environ, "items")))


@view
def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A list of one item, without a length."""
    start_response("200 OK", TEXT)
    return [b"Hello, World!\n"]


@view
def fields(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Fields that are repeated, not ASCII, or usually the server's."""
    start_response(
        "200 OK",
        [
            ("Set-Cookie", "a=1"),
            ("X-Latin", "caf\xe9"),
            ("Set-Cookie", "b=2"),
            ("Date", "Sat, 01 Jan 2000 00:00:00 GMT"),
            ("Server", "test"),
            ("Content-Length", "2"),
        ],
    )
    return [b"ok"]


@view
def gated(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Three items; each but the first one is made after the test has opened the gate of its name."""
    probe = probe_of(environ)
    start_response("200 OK", TEXT)

    def items() -> Iterator[bytes]:
        for name in ["one", "two", "three"]:
            if name != "one":
                probe.pass_gate(name)
            probe.record(name)
            yield name.encode()

    return Tracked(probe, items())


@view
def endless(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Items of 64 KiB, `count` of them, or until the client has left; the progress is the number of items."""
    probe = probe_of(environ)
    start_response("200 OK", TEXT)

    def items() -> Iterator[bytes]:
        for number in range(int(argument(environ, "count", "20000"))):
            probe.progress(number)
            yield b"x" * 65536

    return Tracked(probe, items())


@view
def fails(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Raises at the place of the parameter `at`; the message is the parameter `message`."""
    at, error = argument(environ, "at"), RuntimeError(argument(environ, "message"))
    if at == "call":
        raise error
    start_response("200 OK", TEXT + ([("Content-Length", "100")] if at == "length" else []))
    if at == "started":
        raise error

    def items() -> Iterator[bytes]:
        if at == "first":
            raise error
        yield b"part"
        probe_of(environ).pass_gate("raise")
        raise error

    return Tracked(probe_of(environ), items())


@view
def fails_in_close(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A whole response, whose iterable raises in `close`."""

    class Failing(Tracked):
        def close(self) -> None:
            super().close()
            raise RuntimeError(argument(environ, "message"))

    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Failing(probe_of(environ), [b"body"])


@view
def bad_items(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """An iterable that is no iterable, or has items that are not bytes: the parameter `kind`."""
    start_response("200 OK", TEXT)
    return {"none": None, "number": 7, "text": ["text"], "numbers": [1, 2]}[argument(environ, "kind")]


# Threads


@view
def threads(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Records the thread of the call, of each item, and of `close`."""
    probe = probe_of(environ)
    probe.record("call", thread=threading.get_ident())
    start_response("200 OK", TEXT)

    def items() -> Iterator[bytes]:
        for _ in range(20):
            time.sleep(0.001)  # Other requests run here.
            yield b"item"

    return Tracked(probe, items())


@view
def meets(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Waits until the test opens the gate `go`; the test opens it when several requests are here."""
    probe = probe_of(environ)
    probe.record("here")
    probe.pass_gate("go")
    start_response("200 OK", TEXT)
    return [b"met"]


# Files and the log


@view
def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A body of `wsgi.file_wrapper`. `skip` is the position in the file, `length` the value of Content-Length."""
    probe, data, length = probe_of(environ), file_content(), argument(environ, "length")
    match argument(environ, "kind"):
        case "memory":
            opened = File(probe, data)
        case "read":
            opened = OnlyRead(data)
        case "disk":
            opened = tempfile.TemporaryFile()
            opened.write(data)
            opened.seek(0)
    if skip := argument(environ, "skip"):
        opened.seek(int(skip))
    start_response("200 OK", TEXT + ([("Content-Length", length)] if length else []))
    wrapper = environ["wsgi.file_wrapper"]
    wrapped = wrapper(opened, 1000) if argument(environ, "block") else wrapper(opened)
    if argument(environ, "through"):
        return through(wrapped)
    return wrapped


def through(wrapped: Iterable[bytes]) -> Iterator[bytes]:
    """A middleware that changes each item."""
    try:
        for item in wrapped:
            yield item.upper()
    finally:
        wrapped.close()


@view
def errors(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Writes to `wsgi.errors`."""
    stream, message = environ["wsgi.errors"], argument(environ, "message")
    stream.write(f"{message} written\n")
    stream.writelines([f"{message} of several: \u20ac\n", f"{message} lines\n"])
    stream.flush()
    start_response("200 OK", [*TEXT, ("Content-Length", "0")])
    return []
