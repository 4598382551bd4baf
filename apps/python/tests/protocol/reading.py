"""Calls of the methods of a stream, for `wsgi.input` and for the `io.BytesIO` that it is compared with."""

from __future__ import annotations

import hashlib
from typing import Any


def results(stream: Any, calls: list[list[Any]]) -> list[Any]:
    """The results of calls, `[method, argument...]`; the test calls an `io.BytesIO` in the same way."""
    return [described(call(stream, *entry)) for entry in calls]


def call(stream: Any, method: str, *arguments: int | None) -> Any:
    """The result of a method of a stream. The method `iterate` has all items, and `next` one, or b""."""
    match method:
        case "iterate":
            return list(stream)
        case "next":
            return next(iter(stream), b"")
        case "hint":
            # A server may ignore the hint, so only the joined lines are the same everywhere.
            lines = stream.readlines(*arguments)
            assert all(type(line) is bytes for line in lines)
            return b"".join(lines + stream.readlines())
        case _:
            return getattr(stream, method)(*arguments)


def described(value: bytes | list[bytes]) -> Any:
    """A result for JSON: short bytes as text, long ones as their length and digest."""
    if isinstance(value, list):
        return [described(item) for item in value[:20]] + [described(b"".join(value))]
    assert type(value) is bytes, type(value)
    return value.decode("latin-1") if len(value) < 100 else [len(value), hashlib.sha256(value).hexdigest()]
