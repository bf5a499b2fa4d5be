"""A request without an application: a function runs inside the middleware."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from pgstatus.bookmarks.bookmark import Marks, merge
from pgstatus.bookmarks.carrier import Signer
from pgstatus.django.middleware import ReadYourWritesMiddleware


class Browser:
    """Sends the cookies back. ``run(view)`` is one request; its result is that of the view."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def run(self, view: Callable[[], Any]) -> Any:
        results = []

        def respond(request: HttpRequest) -> HttpResponse:
            results.append(view())
            return HttpResponse()

        request = RequestFactory().get("/")
        request.COOKIES.update(self.cookies)
        pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        request.META["HTTP_COOKIE"] = pairs
        request_started.send(type(self), environ={})
        response = ReadYourWritesMiddleware(respond)(request)
        request_finished.send(type(self))
        assert isinstance(response, HttpResponse)
        for name, morsel in response.cookies.items():
            self.cookies.pop(name, None)
            if morsel["max-age"] != 0:
                self.cookies[name] = morsel.value
        return results[0]

    def marks(self) -> Marks:
        """The bookmark of each cluster."""
        marks: Marks = {}
        for signed in self.cookies.values():
            merge(marks, Signer(settings.SECRET_KEY, 60).read(signed.encode()) or {})
        return marks


def host_of(instance: Any) -> str:
    """The address of the server that an object was read from, if its connection is still open."""
    host = connections[instance._state.db].host  # type: ignore[attr-defined]
    return str(host).partition(":")[0]
