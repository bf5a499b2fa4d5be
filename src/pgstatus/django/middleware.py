"""Carries a client's bookmark from the response that wrote to the requests that read."""

from collections.abc import Awaitable, Callable
from inspect import signature
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from pgstatus.bookmarks.bookmark import current_notes
from pgstatus.bookmarks.exchange import Bookmarks, Exchange
from pgstatus.django.base import DatabaseWrapper
from pgstatus.django.streaming import route_body

SETTING = "PG_STATUS_BOOKMARK"
_OPTIONS = signature(Bookmarks).parameters.keys() - {"secret"}

Response = HttpResponseBase
GetResponse = Callable[[HttpRequest], "Response | Awaitable[Response]"]


class ReadYourWritesMiddleware:
    """Lets the reads of requests use replicas, and lets each client see what it has written.

    It has to be the first in ``MIDDLEWARE``: what other middlewares write, for example sessions, is
    then noted, and a cache stores no bookmark.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._bookmarks = bookmarks()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> "Response | Awaitable[Response]":
        if self._is_async:
            return self._respond(request)
        exchange = self._exchange(request)
        token = current_notes.set(exchange.notes)
        try:
            response = cast("Response", self._get_response(request))
            note_writes()
        finally:
            current_notes.reset(token)
        return _with_bookmark(response, exchange)

    async def _respond(self, request: HttpRequest) -> Response:
        exchange = self._exchange(request)
        token = current_notes.set(exchange.notes)
        try:
            response = await cast("Awaitable[Response]", self._get_response(request))
            # In the thread of the request's synchronous code. What another thread has written has
            # no position, so that the next reads of the client use the master.
            await sync_to_async(note_writes)()
        finally:
            current_notes.reset(token)
        return _with_bookmark(response, exchange)

    def _exchange(self, request: HttpRequest) -> Exchange:
        headers = [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in request.headers.items()
        ]
        return self._bookmarks.of_request(headers, request.scheme)


def bookmarks() -> Bookmarks:
    """How bookmarks travel, by ``PG_STATUS_BOOKMARK``. ImproperlyConfigured: it is not valid.

    They are signed as everything else of Django: ``SECRET_KEY`` signs, the fallbacks are accepted.
    """
    given = getattr(settings, SETTING, {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"{SETTING} must be a dictionary")
    unknown = ", ".join(sorted(map(str, given.keys() - _OPTIONS)))
    if unknown:
        known = ", ".join(sorted(_OPTIONS))
        raise ImproperlyConfigured(f"{SETTING}: unknown option {unknown}; known are {known}")
    secrets = [*settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY]
    try:
        return Bookmarks(secret=secrets, **{"secure": settings.SESSION_COOKIE_SECURE, **given})
    except ValueError as error:
        raise ImproperlyConfigured(f"{SETTING}: {error}") from error


def note_writes() -> None:
    """Complete the bookmark of this request with what its thread has committed."""
    for connection in connections.all(initialized_only=True):
        if isinstance(connection, DatabaseWrapper):
            connection.note_writes()


def _with_bookmark(response: Response, exchange: Exchange) -> Response:
    route_body(response, exchange.notes)
    for name, value in exchange.headers():
        if name == b"set-cookie":
            # Django keeps cookies apart, because the names of its headers are unique.
            response.cookies.load(value.decode("ascii"))
        else:
            response.headers[name.decode("ascii")] = value.decode("ascii")
    return response
