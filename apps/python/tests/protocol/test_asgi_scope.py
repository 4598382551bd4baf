"""ASGI, "HTTP Connection Scope": each key, its type and its value; the state, the task and the context of a request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serving import Server, Servers

from .wire import Response, Wire


def scope_of(response: Response) -> dict[str, Any]:
    """The values of the scope that the view `scope` describes, without their types."""
    assert response.status == 200, response
    return {key: plain(value) for key, value in json.loads(response.body)["keys"].items()}


def plain(value: list[Any]) -> Any:
    """A described value without its types."""
    match value:
        case ["dict", entries]:
            return {key: plain(item) for key, item in entries.items()}
        case ["iterable", items]:
            return [plain(item) for item in items]
        case [_, item]:
            return item


def scope(server: Server, target: str = "/scope", method: str = "GET", **request: Any) -> dict[str, Any]:
    """The scope of a request."""
    with Wire(server) as wire:
        return scope_of(wire.exchange(target, method, **request))


def test_the_scope_is_a_dict_with_these_types(asgi: Server) -> None:
    with Wire(asgi) as wire:
        described = json.loads(wire.exchange("/scope?a=1", fields=[("X-Test", "1")]).body)
    assert described["type"] == "dict"
    types = {key: kind for key, (kind, _) in described["keys"].items()}
    expected = {
        "type": "str",
        "asgi": "dict",
        "http_version": "str",
        "method": "str",
        "scheme": "str",
        "path": "str",
        "raw_path": "bytes",
        "query_string": "bytes",
        "root_path": "str",
        "headers": "iterable",
        "client": "iterable",
        "server": "iterable",
        "state": "dict",
    }
    assert {key: types.get(key) for key in expected} == expected
    names_and_values = [field for _, field in described["keys"]["headers"][1]]
    assert {kind for field in names_and_values for kind, _ in field} == {"bytes"}


def test_the_version_of_the_interface(asgi: Server) -> None:
    values = scope(asgi)
    assert values["type"] == "http"
    assert values["asgi"]["version"] == "3.0"
    assert values["asgi"].get("spec_version", "2.0") >= "2.3"


def test_the_request_line(asgi: Server) -> None:
    values = scope(asgi, "/scope/a?b=c&d", "DELETE")
    assert (values["method"], values["path"], values["query_string"]) == ("DELETE", "/scope/a", "b=c&d")
    assert (values["http_version"], values["scheme"], values["root_path"]) == ("1.1", "http", "")
    assert scope(asgi, version="HTTP/1.0")["http_version"] == "1.0"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"])
def test_the_method(asgi: Server, method: str) -> None:
    assert scope(asgi, method=method, body=b"")["method"] == method


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/scope", "/scope", "/scope", ""),
        ("/scope?", "/scope", "/scope", ""),
        ("/scope/a%20b", "/scope/a b", "/scope/a%20b", ""),
        ("/scope/caf%C3%A9", "/scope/caf\xe9", "/scope/caf%C3%A9", ""),
        ("/scope/%E2%82%ac", "/scope/\u20ac", "/scope/%E2%82%ac", ""),
        ("/scope/a%2Fb", "/scope/a/b", "/scope/a%2Fb", ""),
        ("/scope/a%3Fb", "/scope/a?b", "/scope/a%3Fb", ""),
        ("/scope/a+b//c", "/scope/a+b//c", "/scope/a+b//c", ""),
        ("/scope/a%252F", "/scope/a%2F", "/scope/a%252F", ""),
        ("/scope?a=%20%C3%A9+&&b", "/scope", "/scope", "a=%20%C3%A9+&&b"),
        ("/scope?a?b=/c", "/scope", "/scope", "a?b=/c"),
        ("http://other.test/scope?a", "/scope", "/scope", "a"),
    ],
)
@pytest.mark.differs(gunicorn="takes the host of an absolute target for a part of the path")
def test_the_path_is_decoded_and_the_query_is_not(
    asgi: Server, target: str, path: str, raw_path: str, query: str
) -> None:
    values = scope(asgi, target)
    assert (values["path"], values["raw_path"], values["query_string"]) == (path, raw_path, query)


def test_bytes_that_are_not_utf_8_do_not_end_the_request(asgi: Server) -> None:
    with Wire(asgi) as wire:
        response = wire.exchange("/scope/caf%E9")
        assert response.status in (200, 400)
        if response.status == 200:
            assert scope_of(response)["raw_path"] == "/scope/caf%E9"


@pytest.mark.differs(gunicorn="does not add it to the path")
def test_the_root_path_is_in_front_of_the_path(serve: Servers) -> None:
    values = scope(serve("apps_asgi:app", "--root-path=/mount"), "/scope/a")
    assert values["root_path"] == "/mount"
    # "PATH_INFO can be derived by stripping root_path from path."
    assert values["path"] == "/mount/scope/a"


def test_the_addresses(asgi: Server) -> None:
    with Wire(asgi) as wire:
        values = scope_of(wire.exchange("/scope"))
        assert values["client"] == list(wire.socket.getsockname())
    assert values["server"] == list(asgi.address)


@pytest.mark.differs(uvicorn="keeps the space after a value")
def test_fields_keep_their_order_and_are_not_joined(asgi: Server) -> None:
    fields = [("X-B", "1"), ("x-a", "2"), ("X-B", "3"), ("Cookie", "a=1"), ("COOKIE", "b=2"), ("X-Latin", "caf\xe9")]
    values = scope(asgi, fields=[*fields, ("X-Empty", ""), ("X-Space", " b "), ("X_Under", "c")])
    received = [tuple(field) for field in values["headers"]]
    names = {name for name, _ in received}
    assert names == {name.lower() for name in names}
    # Fields with an underscore may be left out, so that a client cannot pretend to be its proxy.
    assert [field for field in received if field[0] != "x_under"] == [
        ("host", "test"),
        *((name.lower(), value) for name, value in fields),
        ("x-empty", ""),
        ("x-space", "b"),
    ]


def test_the_fields_of_a_body_are_in_the_scope(asgi: Server) -> None:
    values = scope(asgi, method="POST", fields=[("Content-Type", "text/plain")], body=b"12345")
    assert ["content-type", "text/plain"] in values["headers"] and ["content-length", "5"] in values["headers"]


# State and context


def test_a_request_has_a_shallow_copy_of_the_state(asgi: Server, backend: str) -> None:
    with Wire(asgi) as wire:
        found = [json.loads(wire.exchange("/state").body) for _ in range(4)]
    # A new key and a new value are the request's own.
    assert [(each["number"], each["keys"]) for each in found] == [(1, 2)] * 4
    # A list is the same one for all requests of an event loop. On `threadpool` each thread has an event loop.
    if backend != "threadpool":
        assert [each["shared"] - found[0]["shared"] for each in found] == [0, 1, 2, 3]


def test_a_request_is_a_task_with_its_own_context(asgi: Server) -> None:
    def get(number: int) -> dict[str, Any]:
        with Wire(asgi) as wire:
            return json.loads(wire.exchange(f"/context?value={number}").body)

    with ThreadPoolExecutor(8) as clients:
        for number, found in enumerate(clients.map(get, range(32))):
            expected = str(number)
            assert found == {"task": True, "loop": True, "before": "nothing", "after": expected, "inner": expected}


def test_the_next_request_of_a_connection_has_a_new_context(asgi: Server) -> None:
    with Wire(asgi) as wire:
        for number in range(4):
            assert json.loads(wire.exchange(f"/context?value={number}").body)["before"] == "nothing"
