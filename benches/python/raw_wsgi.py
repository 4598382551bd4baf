"""The application as a WSGI callable without a framework. README.md lists the routes."""

import json
import time

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


def plaintext(environ):
    return "200 OK", TEXT, b"Hello, World!"


def as_json(environ):
    return "200 OK", JSON, json.dumps({"message": "Hello, World!"}).encode()


def wait(environ, milliseconds=10):
    time.sleep(milliseconds / 1000)
    return "200 OK", TEXT, b"Hello, World!"


def echo(environ):
    data = body(environ)
    return ("200 OK", "application/octet-stream", data) if data else empty()


def upload(environ):
    data = body(environ)
    return ("200 OK", TEXT, str(len(data)).encode()) if data else empty()


def empty():
    return "400 Bad Request", TEXT, b"the body is empty"


def body(environ):
    return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


ROUTES = {"/plaintext": plaintext, "/json": as_json, "/wait": wait, "/echo": echo, "/upload": upload}


def app(environ, start_response):
    path = environ["PATH_INFO"]
    route = ROUTES.get(path)
    if route is not None:
        status, content_type, data = route(environ)
    elif path.startswith("/wait/"):
        status, content_type, data = wait(environ, int(path[6:]))
    else:
        status, content_type, data = "404 Not Found", TEXT, b"no such route"
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(data)))])
    return [data]
