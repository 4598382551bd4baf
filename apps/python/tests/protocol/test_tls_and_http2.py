"""The scope of ASGI and the environ of WSGI over TLS and over HTTP/2."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from probe import DEADLINE
from serving import Server, Servers

from .test_asgi_scope import plain
from .websocket import HANDSHAKE, masked
from .wire import Wire

pytestmark = pytest.mark.gearshift

HTTP2 = {"mio", "tokio", "smol", "async-std"}
"""The backends that speak HTTP/2."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, and its key in `key.pem` beside it."""
    directory = tmp_path_factory.mktemp("tls")
    certificate = directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", str(directory / "key.pem"), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate


@pytest.fixture(scope="module")
def trust(certificate: Path) -> ssl.SSLContext:
    """The settings of a client that trusts the certificate."""
    return ssl.create_default_context(cafile=certificate)


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    """The scheme of the requests."""
    return request.param


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, backend: str, trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    """A client that speaks this version alone; without TLS it knows that the server does."""
    version = request.param
    if version == "HTTP/2" and backend not in HTTP2:
        pytest.skip(f"{backend} has no HTTP/2")
    versions = {"http1": version == "HTTP/1.1", "http2": version == "HTTP/2"}
    with httpx.Client(verify=trust, timeout=DEADLINE, trust_env=False, **versions) as client:
        client.headers["x-version"] = version
        yield client


def served(serve_shared: Servers, app: str, scheme: str, certificate: Path, interface: str = "asgi") -> Server:
    """A server of an application that speaks TLS or not."""
    key = certificate.with_name("key.pem")
    flags = [f"--tls-cert={certificate}", f"--tls-key={key}"] if scheme == "https" else []
    return serve_shared.shared(app, *flags, interface=interface)


@pytest.fixture
def asgi(serve_shared: Servers, scheme: str, certificate: Path) -> Server:
    """A server with the raw ASGI application for HTTP."""
    return served(serve_shared, "apps_asgi:app", scheme, certificate)


@pytest.fixture
def wsgi(serve_shared: Servers, scheme: str, certificate: Path) -> Server:
    """A server with the raw WSGI application."""
    return served(serve_shared, "apps_wsgi:app", scheme, certificate, "wsgi")


def described(client: httpx.Client, url: str, **request: Any) -> dict[str, tuple[str, Any]]:
    """The types and the values that a view describes."""
    response = client.post(url, **request)
    assert response.status_code == 200, response
    assert response.http_version == client.headers["x-version"]
    return response.json()["keys"]


def test_the_scope(asgi: Server, client: httpx.Client, scheme: str) -> None:
    fields = [("X-Test", "1"), ("X-Test", "2"), ("Cookie", "a=1; b=2")]
    keys = described(client, f"{asgi.url}/scope/caf%C3%A9?a=%20", headers=fields, content=b"12345")
    assert (keys["scheme"][0], keys["http_version"][0]) == ("str", "str")
    values = {key: plain(value) for key, value in keys.items()}
    assert (values["type"], values["scheme"], values["method"]) == ("http", scheme, "POST")
    # "One of "1.0", "1.1" or "2"."
    assert values["http_version"] == client.headers["x-version"].removeprefix("HTTP/")
    assert (values["path"], values["query_string"]) == ("/scope/caf\xe9", "a=%20")
    assert values["server"] == list(asgi.address) and values["client"][0] == "127.0.0.1"
    received = [tuple(field) for field in values["headers"]]
    # HTTP/2 has the pseudo-header field `:authority` instead of `Host`, and ASGI asks for `host` in the headers.
    assert [value for name, value in received if name == "host"] == [f"127.0.0.1:{asgi.port}"]
    assert [name for name, _ in received if name.startswith(":")] == []
    assert [value for name, value in received if name == "x-test"] == ["1", "2"]
    assert ("cookie", "a=1; b=2") in received and ("content-length", "5") in received


def test_the_environ(wsgi: Server, client: httpx.Client, scheme: str) -> None:
    fields = [("X-Test", "1"), ("X-Test", "2"), ("Cookie", "a=1; b=2")]
    keys = described(client, f"{wsgi.url}/environ/caf%C3%A9?a=%20", headers=fields, content=b"12345")
    values = {key: value for key, (_, value) in keys.items()}
    assert keys["wsgi.url_scheme"] == ["str", scheme]
    # The PEP asks for the variables of Apache.
    assert values.get("HTTPS") == ("on" if scheme == "https" else None)
    assert values["SERVER_PROTOCOL"] == client.headers["x-version"]
    assert (values["REQUEST_METHOD"], values["SERVER_PORT"]) == ("POST", str(wsgi.port))
    assert (values["PATH_INFO"], values["QUERY_STRING"]) == ("/environ/caf\xc3\xa9", "a=%20")
    assert values["HTTP_HOST"] == f"127.0.0.1:{wsgi.port}"
    assert values["HTTP_X_TEST"].replace(", ", ",") == "1,2"
    assert (values["HTTP_COOKIE"], values["CONTENT_LENGTH"]) == ("a=1; b=2", "5")
    # The URL that the PEP makes of the environ is that of the request.
    assert f"{values['wsgi.url_scheme']}://{values['HTTP_HOST']}" == wsgi.url


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_bodies_both_ways(asgi: Server, client: httpx.Client, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    response = client.post(f"{asgi.url}/echo", content=content)
    assert response.http_version == client.headers["x-version"]
    assert response.content == content


def test_requests_of_one_client_run_at_once(asgi: Server, client: httpx.Client) -> None:
    # Over HTTP/2, all of them share a connection.
    def get(number: int) -> dict[str, Any]:
        return client.get(f"{asgi.url}/context?value={number}").json()

    with ThreadPoolExecutor(8) as clients:
        for number, found in enumerate(clients.map(get, range(32))):
            assert (found["before"], found["after"]) == ("nothing", str(number))


def test_a_websocket(serve_shared: Servers, scheme: str, certificate: Path, trust: ssl.SSLContext) -> None:
    server = served(serve_shared, "apps_websocket:app", scheme, certificate)
    # The client of `websockets` uses a connection of TLS in two threads, which fails at times.
    trusts = trust if scheme == "https" else None
    with Wire(server, trust=trusts) as wire:
        wire.request("/scope", fields=HANDSHAKE)
        assert wire.head().status == 101
        assert wire.exactly(2) == b"\x81\x7e"
        described = json.loads(wire.exactly(int.from_bytes(wire.exactly(2), "big")))
    values = {key: plain(value) for key, value in described.items()}
    assert (values["type"], values["http_version"]) == ("websocket", "1.1")
    assert values["scheme"] == {"http": "ws", "https": "wss"}[scheme]
    with Wire(server, trust=trusts) as wire:
        wire.request("/echo", fields=HANDSHAKE)
        assert wire.head().status == 101
        for _ in range(2):
            wire.send(masked("text"))
            assert wire.exactly(6) == b"\x81\x04text"


def test_a_client_of_both_versions_gets_the_one_of_the_backend(
    serve_shared: Servers, backend: str, certificate: Path, trust: ssl.SSLContext
) -> None:
    server = served(serve_shared, "apps_asgi:app", "https", certificate)
    # The client offers both by ALPN.
    with httpx.Client(verify=trust, timeout=DEADLINE, trust_env=False, http2=True) as client:
        response = client.get(f"{server.url}/scope")
    values = {key: plain(value) for key, value in response.json()["keys"].items()}
    assert values["http_version"] == ("2" if backend in HTTP2 else "1.1")
