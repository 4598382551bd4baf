"""The applications without a server: all of them give the same answers."""

import asyncio
import importlib
import io
import sys
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

WSGI = ["raw_wsgi", "flask_app"]
ASGI = ["raw_asgi", "fastapi_app", "starlette_app"]
TEXT = "text/plain; charset=utf-8"
CASES = [
    ("GET", "/plaintext", b"", 200, TEXT, b"Hello, World!"),
    ("GET", "/wait", b"", 200, TEXT, b"Hello, World!"),
    ("GET", "/wait/1", b"", 200, TEXT, b"Hello, World!"),
    ("GET", "/wait/10", b"", 200, TEXT, b"Hello, World!"),
    ("POST", "/echo", b"x" * 10_240, 200, "application/octet-stream", b"x" * 10_240),
    ("POST", "/upload", b"x" * 1_000_000, 200, TEXT, b"1000000"),
    ("POST", "/echo", b"", 400, TEXT, b"the body is empty"),
    ("POST", "/upload", b"", 400, TEXT, b"the body is empty"),
]
# Routes that only the frameworks have.
FRAMEWORKS = [
    ("flask_app", ["/async", "/cpu/9", "/fan/2/1"]),
    ("fastapi_app", ["/def", "/block/1", "/offload/1", "/cpu/9", "/offload-cpu/9", "/fan/2/1"]),
]


def call(name, method, path, body):
    """Calls an application in process. Returns status, content type and body."""
    framework = {"flask_app": "flask", "fastapi_app": "fastapi", "starlette_app": "starlette"}.get(name)
    if framework:
        pytest.importorskip(framework)
    app = importlib.import_module(name).app
    return (call_wsgi if name in WSGI else call_asgi)(app, method, path, body)


def call_wsgi(app, method, path, body):
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "PATH_INFO": path,
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
    }
    setup_testing_defaults(environ)
    answer = {}

    def start_response(status, headers, exc_info=None):
        answer["status"], answer["headers"] = int(status[:3]), {name.lower(): value for name, value in headers}
        return lambda data: None

    parts = validator(app)(environ, start_response)
    data = b"".join(parts)
    parts.close()
    return answer["status"], answer["headers"]["content-type"], data


def call_asgi(app, method, path, body):
    half = len(body) // 2
    received = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    sent = []

    async def receive():
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"test"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(app(scope, receive, send))
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    data = b"".join(message.get("body", b"") for message in sent[1:])
    assert int(headers["content-length"]) == len(data)
    return sent[0]["status"], headers["content-type"], data


@pytest.mark.parametrize("name", WSGI + ASGI)
@pytest.mark.parametrize("method, path, body, status, content_type, data", CASES)
def test_every_application_gives_the_same_answer(name, method, path, body, status, content_type, data):
    assert call(name, method, path, body) == (status, content_type, data)


@pytest.mark.parametrize("name", WSGI + ASGI)
def test_every_application_serialises_the_same_json(name):
    status, content_type, data = call(name, "GET", "/json", b"")
    assert (status, content_type) == (200, "application/json")
    assert b"".join(data.split()) == b'{"message":"Hello,World!"}'


@pytest.mark.parametrize("name, path", [(name, path) for name, paths in FRAMEWORKS for path in paths])
def test_the_routes_of_the_claims_answer(name, path):
    status, _, data = call(name, "GET", path, b"")
    assert (status, data) == (200, b"28" if "cpu" in path else b"Hello, World!")


@pytest.mark.parametrize("path", ["/resize", "/resize/in-place"])
def test_a_picture_is_scaled(path):
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.new("RGB", (800, 400)).save(file, "PNG")
    status, content_type, data = call("fastapi_app", "POST", path, file.getvalue())
    assert (status, content_type, image.open(io.BytesIO(data)).size) == (200, "image/jpeg", (200, 100))


def test_a_background_task_does_not_change_the_answer():
    assert call("fastapi_app", "POST", "/later/1", b"")[::2] == (200, b"Hello, World!")


def test_the_lifespan_of_the_raw_application_completes():
    sent, received = [], [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive():
        return received.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(importlib.import_module("raw_asgi").app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
