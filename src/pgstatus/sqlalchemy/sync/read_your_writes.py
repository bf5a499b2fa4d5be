"""Carries a client's bookmark from the response that wrote to the requests that read."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pgstatus.bookmarks.bookmark import current_notes
from pgstatus.bookmarks.carrier import Header
from pgstatus.bookmarks.exchange import Bookmarks
from pgstatus.sqlalchemy.sync.wsgi import Environ, Exchange, Headers, StartResponse, WSGIApp

logger = logging.getLogger("pgstatus.sqlalchemy")

_ENVIRON_KEY = "pgstatus.notes"
_ERROR = b"Internal Server Error"


class WSGIReadYourWritesMiddleware:
    """Makes what a request wrote visible to the same client's next reads from replicas.

    Everything that is committed through the master's engine of a ``PgStatusCluster`` is noted;
    sessions of ``.replica()`` are created where it can be read. Place it *around* the session
    middleware (apply it after that one). The other order is correct too, but sends reads to the
    master for ``pin_seconds`` after each write, because the position is known too late for the
    headers; the same applies to a streamed response that is committed after them. What a thread
    writes is covered if it was started in a copy of the request's context and has committed before
    the headers are sent.

    If the application raises after a commit, or the commit itself fails with its connection, the
    middleware logs the error and responds 500 itself, so that the bookmark is not lost.

    The options are those of `Bookmarks`.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        secret: str | Sequence[str],
        carrier: Literal["cookie", "header"] = "cookie",
        name: str = "pg-bookmark",
        max_age: int = 60,
        pin_seconds: float = 10.0,
        secure: bool = True,
    ) -> None:
        self.app = app
        self._bookmarks = Bookmarks(
            secret=secret,
            carrier=carrier,
            name=name,
            max_age=max_age,
            pin_seconds=pin_seconds,
            secure=secure,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        notes = current_notes.get()
        if notes is not None and environ.get(_ENVIRON_KEY) is notes:
            return self.app(environ, start_response)
        return _Request(self.app, self._bookmarks, environ, start_response).run()


class _Request(Exchange):
    def __init__(
        self,
        app: WSGIApp,
        bookmarks: Bookmarks,
        environ: Environ,
        start_response: StartResponse,
    ) -> None:
        super().__init__(app, environ, start_response)
        self._exchange = bookmarks.of_request(_headers_of(environ), environ.get("wsgi.url_scheme"))

    def enter(self) -> None:
        self.environ[_ENVIRON_KEY] = self._exchange.notes
        current_notes.set(self._exchange.notes)

    def head(self, status: int, headers: Headers, *, streamed: bool) -> Headers:
        return [*headers, *_text(self._exchange.headers())]

    def failed(self, error: Exception) -> tuple[str, Headers, bytes] | None:
        if not self._exchange.must_respond():
            return None
        logger.error("a request has failed that has written, or may have", exc_info=error)
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(_ERROR))),
            *_text(self._exchange.headers()),
        ]
        return "500 Internal Server Error", headers, _ERROR


def _headers_of(environ: Environ) -> Iterator[Header]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            header = name[5:].replace("_", "-").lower()
            yield header.encode("latin-1"), str(value).encode("latin-1")


def _text(headers: Iterable[Header]) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
