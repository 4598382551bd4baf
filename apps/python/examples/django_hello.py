"""Django in one file: the same project as a WSGI application, `wsgi`, and as an ASGI application, `asgi`."""

import asyncio
import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for this example"),
)


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello, World!\n", content_type="text/plain")


async def load_data(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "Done!"


async def data(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"data": await load_data(float(request.GET.get("seconds", 1)))})


urlpatterns = [path("", hello), path("data", data)]

wsgi = get_wsgi_application()
asgi = get_asgi_application()
