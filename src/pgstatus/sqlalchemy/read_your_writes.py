"""Carries a client's bookmark from the response that wrote to the requests that read."""

import logging
from collections.abc import Sequence
from typing import Literal

from pgstatus.bookmarks.bookmark import Notes, current_notes
from pgstatus.bookmarks.carrier import Carrier, CookieCarrier, HeaderCarrier, Signer
from pgstatus.sqlalchemy.asgi_utils.middleware import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("pgstatus.sqlalchemy")

_SCOPE_KEY = "pgstatus.notes"
# Parallel requests leave a cookie each. With more than this, a response that only reads also
# replaces them by one, so that the request header stays small.
MANY_COOKIES = 8


class ReadYourWritesMiddleware:
    """Makes what a request wrote visible to the same client's next reads from replicas.

    Everything that is committed through the master's engine of a ``PgStatusCluster`` is noted;
    sessions of ``.replica()`` are created where it can be read. Place it *around* the session
    middleware (add it after that one). The other order is correct too, but sends reads to the
    master for ``pin_seconds`` after each write, because the position is known too late for the
    headers; the same applies to a streamed response that is committed after them. What a background
    task or a websocket writes is not covered.

    If the application raises after a commit, and no exception handler inside this middleware
    responds, the middleware itself responds 500, so that the bookmark is not lost. To keep a
    handler for ``Exception``, which Starlette calls outside of all added middlewares, wrap the
    application: ``app = ReadYourWritesMiddleware(app, …)``.

    secret: signs the bookmark; the last of several signs, all are accepted.
    carrier: ``cookie``, or a ``header`` of the response that the client sends back unchanged. A
        client with parallel requests sends all values that it has received, comma-separated.
    name: prefix of the cookies' names, or name of the header.
    max_age: seconds for which a bookmark is valid; more than replicas are ever late.
    pin_seconds: seconds of reads on the master if the position of a write is not known.
    secure: whether the cookie is for HTTPS only.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        secret: str | Sequence[str],
        carrier: Literal["cookie", "header"] = "cookie",
        name: str = "pg-bookmark",
        max_age: int = 60,
        pin_seconds: float = 10.0,
        secure: bool = True,
    ) -> None:
        self.app = app
        signer = Signer(secret, max_age)
        self._carrier: Carrier = (
            CookieCarrier(name, signer, max_age, secure=secure)
            if carrier == "cookie"
            else HeaderCarrier(name, signer)
        )
        self._pin_seconds = pin_seconds
        self._max_age = max_age
        self._warns_of_http = carrier == "cookie" and secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        notes = current_notes.get()
        if scope["type"] not in {"http", "websocket"} or (
            notes is not None and scope.get(_SCOPE_KEY) is notes
        ):
            await self.app(scope, receive, send)
            return

        brought, replaced = self._carrier.brought(scope["headers"])
        notes = scope[_SCOPE_KEY] = Notes(brought, self._pin_seconds, self._max_age)
        started = False

        async def send_with_bookmark(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                notes.pin_unfinished()
                if notes.wrote or len(replaced) > MANY_COOKIES:
                    bookmark = self._carrier.headers(notes.marks, replaced)
                    message = {**message, "headers": [*message.get("headers", ()), *bookmark]}
                    self._warn_of_http(scope)
            await send(message)

        token = current_notes.set(notes)
        try:
            await self.app(scope, receive, send_with_bookmark)
        except Exception:
            notes.pin_unfinished()
            if scope["type"] == "http" and notes.wrote and not started:
                await _respond_500(send_with_bookmark)
            raise
        finally:
            current_notes.reset(token)

    def _warn_of_http(self, scope: Scope) -> None:
        if self._warns_of_http and scope.get("scheme") == "http" and not _is_proxied_https(scope):
            self._warns_of_http = False
            logger.warning(
                "the bookmark cookie has the attribute Secure, but the request came over plain "
                "HTTP: most clients do not send the cookie back, so their reads may not see their "
                "writes. Use secure=False for development without TLS. If a proxy terminates TLS, "
                "let it send X-Forwarded-Proto."
            )


async def _respond_500(send: Send) -> None:
    body = b"Internal Server Error"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_proxied_https(scope: Scope) -> bool:
    return any(
        (name == b"x-forwarded-proto" and b"https" in value.lower())
        or (name == b"forwarded" and b"proto=https" in value.lower())
        for name, value in scope["headers"]
    )
