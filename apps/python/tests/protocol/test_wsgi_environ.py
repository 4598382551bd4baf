"""PEP 3333, section "environ Variables": each key, its type and its value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serving import Server, Servers

from .wire import Response, Wire


def environ_of(response: Response) -> dict[str, Any]:
    """The values of the environ that the view `environ` describes, without those of other types."""
    assert response.status == 200, response
    return {key: value for key, (_, value) in json.loads(response.body)["keys"].items()}


def environ(server: Server, target: str = "/environ", method: str = "GET", **request: Any) -> dict[str, Any]:
    """The environ of a request."""
    with Wire(server) as wire:
        return environ_of(wire.exchange(target, method, **request))


def test_the_environ_is_a_dict_whose_cgi_variables_are_text(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        fields = [("Content-Type", "text/plain"), ("Cookie", "a=1"), ("X-Test", "1")]
        described = json.loads(wire.exchange("/environ?a=1", "POST", fields=fields, body=b"body").body)
    assert described["type"] == "dict"
    types = {key: kind for key, (kind, _) in described["keys"].items()}
    assert {key: kind for key, kind in types.items() if "." not in key and kind != "str"} == {}
    assert types["wsgi.version"] == "tuple"
    assert types["wsgi.url_scheme"] == "str"
    assert types["wsgi.multithread"] == types["wsgi.multiprocess"] == types["wsgi.run_once"] == "bool"
    assert {"wsgi.input", "wsgi.errors"} <= types.keys()


def test_the_wsgi_variables(wsgi: Server) -> None:
    values = environ(wsgi)
    assert values["wsgi.version"] == [1, 0]
    assert values["wsgi.url_scheme"] == "http"
    assert values["wsgi.run_once"] is False


@pytest.mark.gearshift
def test_only_sequential_runs_one_request_at_a_time(wsgi: Server, backend: str) -> None:
    assert environ(wsgi)["wsgi.multithread"] is (backend != "sequential")


@pytest.mark.gearshift
@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_not_multithreaded(serve: Servers, backend: str, threads: int) -> None:
    if backend != "threadpool":
        pytest.skip(f"{backend} has no --threads")
    values = environ(serve("apps_wsgi:app", f"--threads={threads}", interface="wsgi"))
    assert values["wsgi.multithread"] is (threads > 1)


@pytest.mark.gearshift
@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_are_multiprocess(serve: Servers, processes: int) -> None:
    flags = [f"--processes={processes}"] if processes > 1 else []
    assert environ(serve("apps_wsgi:app", *flags, interface="wsgi"))["wsgi.multiprocess"] is (processes > 1)


def test_the_request_line(wsgi: Server) -> None:
    values = environ(wsgi, "/environ/a?b=c&d", "DELETE")
    assert values["REQUEST_METHOD"] == "DELETE"
    assert values["PATH_INFO"] == "/environ/a"
    assert values["QUERY_STRING"] == "b=c&d"
    assert values["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert values.get("SCRIPT_NAME", "") == ""


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"])
def test_the_method(wsgi: Server, method: str) -> None:
    assert environ(wsgi, method=method, body=b"")["REQUEST_METHOD"] == method


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/environ", "/environ", ""),
        ("/environ?", "/environ", ""),
        ("/environ/", "/environ/", ""),
        ("/environ/a%20b", "/environ/a b", ""),
        ("/environ/caf%C3%A9", "/environ/caf\xc3\xa9", ""),
        ("/environ/caf%E9", "/environ/caf\xe9", ""),
        ("/environ/%E2%82%AC", "/environ/\xe2\x82\xac", ""),
        ("/environ/a%2Fb", "/environ/a/b", ""),
        ("/environ/a%3Fb", "/environ/a?b", ""),
        ("/environ/a+b", "/environ/a+b", ""),
        ("/environ/a//b", "/environ/a//b", ""),
        ("/environ/a%252F", "/environ/a%2F", ""),
        ("/environ?a=%20%C3%A9+&&b", "/environ", "a=%20%C3%A9+&&b"),
        ("/environ?a?b=/c", "/environ", "a?b=/c"),
        ("http://other.test/environ?a", "/environ", "a"),
    ],
)
def test_the_path_is_decoded_to_latin_1_and_the_query_is_not(wsgi: Server, target: str, path: str, query: str) -> None:
    values = environ(wsgi, target)
    assert (values["PATH_INFO"], values.get("QUERY_STRING", "")) == (path, query)


@pytest.mark.differs(gunicorn="takes it from the variable SCRIPT_NAME of the process")
def test_the_root_path_is_the_script_name(serve: Servers) -> None:
    values = environ(serve("apps_wsgi:app", "--root-path=/mount", interface="wsgi"), "/environ/a")
    assert values["SCRIPT_NAME"] == "/mount"
    assert values["PATH_INFO"] == "/environ/a"


def test_the_addresses(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        values = environ_of(wire.exchange("/environ"))
        client = wire.socket.getsockname()
    assert values["SERVER_NAME"] != ""
    # RFC 3875, 4.1.15: the port on which the request was received.
    assert values["SERVER_PORT"] == str(wsgi.port)
    assert values["REMOTE_ADDR"] == client[0]
    assert values.get("REMOTE_PORT", str(client[1])) == str(client[1])


def test_a_request_without_host(wsgi: Server) -> None:
    values = environ(wsgi, version="HTTP/1.0")
    assert values["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in values
    assert values["SERVER_NAME"] != "" and values["SERVER_PORT"] == str(wsgi.port)


def test_fields_are_variables(wsgi: Server) -> None:
    fields = [
        ("User-Agent", "test"),
        ("x-lower-case", "a"),
        ("X-Latin", "caf\xe9"),
        ("X-Empty", ""),
        ("X-Space", " b "),
    ]
    values = environ(wsgi, fields=fields)
    assert values["HTTP_HOST"] == "test"
    assert values["HTTP_USER_AGENT"] == "test"
    assert values["HTTP_X_LOWER_CASE"] == "a"
    assert values["HTTP_X_LATIN"] == "caf\xe9"
    assert values["HTTP_X_EMPTY"] == ""
    assert values["HTTP_X_SPACE"] == "b"


def test_repeated_fields_are_joined(wsgi: Server) -> None:
    values = environ(wsgi, fields=[("X-List", "a"), ("Accept", "text/html"), ("X-List", "b"), ("X-List", "c, d")])
    assert values["HTTP_X_LIST"].replace(", ", ",") == "a,b,c,d"
    assert values["HTTP_ACCEPT"] == "text/html"


@pytest.mark.differs(gunicorn="joins them with a comma", waitress="joins them with a comma")
def test_repeated_cookies_are_joined_with_a_semicolon(wsgi: Server) -> None:
    values = environ(wsgi, fields=[("Cookie", "a=1"), ("Cookie", "b=2; c=3"), ("Cookie", "d=4")])
    assert values["HTTP_COOKIE"] == "a=1; b=2; c=3; d=4"


def test_names_with_an_underscore_are_dropped(wsgi: Server) -> None:
    values = environ(wsgi, fields=[("X-User", "a"), ("X_User", "b"), ("X_Only", "c"), ("X-A_B", "d")])
    assert values["HTTP_X_USER"] == "a"
    assert "HTTP_X_ONLY" not in values and "HTTP_X_A_B" not in values


def test_the_body_has_two_variables_without_a_prefix(wsgi: Server) -> None:
    values = environ(wsgi, method="POST", fields=[("Content-Type", "text/plain; a=b")], body=b"12345")
    assert values["CONTENT_TYPE"] == "text/plain; a=b"
    assert values["CONTENT_LENGTH"] == "5"
    assert "HTTP_CONTENT_TYPE" not in values and "HTTP_CONTENT_LENGTH" not in values


def test_a_request_without_a_body_has_neither(wsgi: Server) -> None:
    values = environ(wsgi)
    assert values.get("CONTENT_TYPE", "") == "" and values.get("CONTENT_LENGTH", "") == ""


def test_an_empty_body_has_a_length(wsgi: Server) -> None:
    assert environ(wsgi, method="POST", body=b"")["CONTENT_LENGTH"] == "0"


@pytest.mark.differs(waitress="buffers the body, and gives it a length")
def test_a_chunked_body_has_no_length_and_a_stream_that_ends(wsgi: Server) -> None:
    values = environ(wsgi, method="POST", chunks=[b"123", b"45"])
    assert values.get("CONTENT_LENGTH", "") == ""
    # Not in the PEP: with this variable, frameworks read a body that has no length.
    assert values["wsgi.input_terminated"] is True


def test_each_request_has_its_own_environ(wsgi: Server) -> None:
    with Wire(wsgi) as wire:
        for _ in range(3):
            assert json.loads(wire.exchange("/changes_environ").body) is False
        assert environ_of(wire.exchange("/environ"))["HTTP_HOST"] == "test"
