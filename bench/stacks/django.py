"""pgstatus.django for threads: each operation is a request that passes through the middleware."""

from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import connections, router
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from bench.stacks.stack import READ, WRITE, Place, Read


def configure(place: Place) -> None:
    def database(**pg_status: Any) -> dict[str, Any]:
        return {
            "ENGINE": "pgstatus.django",
            "NAME": place.dbname,
            "USER": place.user,
            "PASSWORD": place.password,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"connect_timeout": 2, "pg_status": {"url": place.url, **pg_status}},
        }

    settings.configure(
        SECRET_KEY="only for this benchmark",
        DATABASES={
            "default": database(),
            "replica": database(role="replica", lag_ms=place.lag_ms),
        },
        DATABASE_ROUTERS=["pgstatus.django.router.ReplicaRouter"],
    )
    django.setup()


class Django:
    def __init__(self, place: Place) -> None:
        configure(place)
        from django.db import models  # noqa: PLC0415  # needs the settings

        class Note(models.Model):
            class Meta:
                app_label = "bench"

        self._model = Note

    def write(self, value: int) -> str:
        """The cookies of the response."""

        def view() -> None:
            with connections[router.db_for_write(self._model)].cursor() as cursor:
                cursor.execute(WRITE.format("%s"), [value])

        _, response = _request(view, "")
        return "; ".join(f"{name}={morsel.value}" for name, morsel in response.cookies.items())

    def read(self, value: int, bookmark: str) -> Read:
        def view() -> Read:
            with connections[router.db_for_read(self._model)].cursor() as cursor:
                cursor.execute(READ.format("%s"), [value])
                count, host = cursor.fetchone()
                return Read(bool(count), host)

        found, _ = _request(view, bookmark)
        return Read(*found)

    def close(self) -> None:
        """The connections belong to the threads, which have ended."""


def _request(view: Callable[[], Any], cookies: str) -> tuple[Any, HttpResponse]:
    from pgstatus.django.middleware import ReadYourWritesMiddleware  # noqa: PLC0415

    results = []

    def respond(_: HttpRequest) -> HttpResponse:
        results.append(view())
        return HttpResponse()

    request = RequestFactory().get("/", headers={"cookie": cookies})
    request_started.send(Django, environ={})
    try:
        response = ReadYourWritesMiddleware(respond)(request)
    finally:
        request_finished.send(Django)
    assert isinstance(response, HttpResponse)
    return results[0], response


def open_stack(place: Place) -> Django:
    return Django(place)
