"""Every sample on every backend: each route, with a client that keeps its connections."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image
from probe import DEADLINE
from serving import EXAMPLES, Server, Servers
from websockets.sync.client import connect

WEB = {"flask_app": "wsgi", "quart_app": "asgi", "starlette_app": "asgi", "fastapi_app": "asgi"}
NOTES = {"sqlalchemy_sync": ("wsgi", "sqlite"), "sqlalchemy_async": ("asgi", "sqlite+aiosqlite")}
DJANGO = {"wsgi": "wsgi", "asgi": "asgi"}


@pytest.fixture(params=WEB)
def web(request: pytest.FixtureRequest, serve_shared: Servers) -> Server:
    """A server with one of the samples that have the same routes."""
    return serve_shared.shared(f"{request.param}:app", interface=WEB[request.param], cwd=EXAMPLES)


@pytest.fixture(params=[sample for sample, interface in WEB.items() if interface == "asgi"])
def web_asgi(request: pytest.FixtureRequest, serve_shared: Servers) -> Server:
    """A server with one of these samples that have a WebSocket."""
    return serve_shared.shared(f"{request.param}:app", cwd=EXAMPLES)


@pytest.fixture
def executors(serve_shared: Servers) -> Server:
    """A server with the sample of the executors."""
    return serve_shared.shared("executors:app", cwd=EXAMPLES)


@pytest.fixture(params=NOTES)
def notes(request: pytest.FixtureRequest, serve: Servers, tmp_path: Path) -> Server:
    """A server with one of the samples of SQLAlchemy, and an empty database."""
    interface, driver = NOTES[request.param]
    database = {"DATABASE_URL": f"{driver}:///{tmp_path / 'notes.db'}"}
    return serve(f"{request.param}:app", interface=interface, cwd=EXAMPLES, env=database)


@pytest.fixture(params=DJANGO)
def django(request: pytest.FixtureRequest, serve_shared: Servers) -> Server:
    """A server with the sample of Django, through one of its interfaces."""
    return serve_shared.shared(f"django_hello:{request.param}", interface=request.param, cwd=EXAMPLES)


def test_a_view_answers(web: Server, client: httpx.Client) -> None:
    for _ in range(3):
        response = client.get(f"{web.url}/")
        assert (response.status_code, response.text) == (200, "Hello, World!\n")


def test_a_view_that_blocks_answers(web: Server, client: httpx.Client) -> None:
    response = client.get(f"{web.url}/wait", params={"seconds": 0.01})
    assert (response.status_code, response.text) == (200, "Done!\n")


def test_a_view_awaits_a_coroutine(web: Server, client: httpx.Client) -> None:
    for _ in range(3):
        response = client.get(f"{web.url}/data", params={"seconds": 0.01})
        assert (response.status_code, response.json()) == (200, {"data": "Done!"})


def test_views_that_wait_answer_many_clients(web: Server, client: httpx.Client) -> None:
    def get(path: str) -> str:
        return client.get(f"{web.url}{path}", params={"seconds": 0.01}).text

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(get, ["/wait"] * 48)) == {"Done!\n"}
        assert {text.replace(" ", "").strip() for text in threads.map(get, ["/data"] * 48)} == {'{"data":"Done!"}'}


def test_a_response_is_streamed(web: Server, client: httpx.Client) -> None:
    with client.stream("GET", f"{web.url}/count/5", params={"seconds": 0.01}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain")
        assert list(response.iter_lines()) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_arrives(web: Server, client: httpx.Client, size: int, chunked: bool) -> None:
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    pieces = (body[start : start + 50_000] for start in range(0, size, 50_000))
    response = client.post(f"{web.url}/upload", content=pieces if chunked else body)
    assert response.status_code == 200, response.text
    assert response.json() == {"size": size, "sha256": hashlib.sha256(body).hexdigest()}


def test_an_unknown_route_is_404(web: Server, client: httpx.Client) -> None:
    assert client.get(f"{web.url}/nothing").status_code == 404
    assert client.post(f"{web.url}/").status_code == 405


def test_a_websocket_echoes(web_asgi: Server) -> None:
    with connect(f"{web_asgi.websocket_url}/echo", open_timeout=DEADLINE) as websocket:
        for text in ["one", "zwei", "trois", "四", "x" * 100_000]:
            websocket.send(text)
            assert websocket.recv(DEADLINE) == text


def picture(width: int, height: int) -> bytes:
    """A JPEG of this size."""
    output = BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(output, "JPEG")
    return output.getvalue()


@pytest.mark.parametrize("way", ["inline", "thread", "process"])
def test_a_picture_becomes_smaller(executors: Server, client: httpx.Client, way: str) -> None:
    response = client.post(f"{executors.url}/{way}", content=picture(1600, 1200))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/jpeg"
    with Image.open(BytesIO(response.content)) as image:
        assert (image.format, image.size) == ("JPEG", (320, 240))


def test_pictures_of_many_clients_become_smaller(executors: Server, client: httpx.Client) -> None:
    def post(width: int) -> tuple[int, int]:
        way = ["inline", "thread", "process"][width % 3]
        response = client.post(f"{executors.url}/{way}", content=picture(width, width))
        return Image.open(BytesIO(response.content)).size

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(post, range(400, 418))) == {(240, 240)}
    assert client.get(f"{executors.url}/").status_code == 200


def test_notes_are_stored(notes: Server, client: httpx.Client) -> None:
    assert client.get(f"{notes.url}/notes").json() == []
    first = client.post(f"{notes.url}/notes", json={"text": "buy milk"})
    assert (first.status_code, first.json()) == (201, {"id": 1, "text": "buy milk"})
    assert client.get(f"{notes.url}/notes/1").json() == first.json()
    assert client.get(f"{notes.url}/notes/2").status_code == 404


def test_notes_of_many_clients_are_stored(notes: Server, client: httpx.Client) -> None:
    def post(number: int) -> int:
        return client.post(f"{notes.url}/notes", json={"text": f"number {number}"}).json()["id"]

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(post, range(40))) == list(range(1, 41))
    stored = client.get(f"{notes.url}/notes").json()
    assert sorted(note["text"] for note in stored) == sorted(f"number {number}" for number in range(40))


def test_django_answers(django: Server, client: httpx.Client) -> None:
    assert client.get(f"{django.url}/").text == "Hello, World!\n"
    assert client.get(f"{django.url}/data", params={"seconds": 0.01}).json() == {"data": "Done!"}
    assert client.get(f"{django.url}/nothing").status_code == 404
