"""Carries a client's bookmark from the response that wrote to the requests that read."""

from collections.abc import Sequence
from typing import Literal

from pgstatus.bookmarks.bookmark import current_notes
from pgstatus.bookmarks.exchange import Bookmarks
from pgstatus.sqlalchemy.asgi_utils.middleware import ASGIApp, Message, Receive, Scope, Send

_SCOPE_KEY = "pgstatus.notes"


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

    The options are those of `Bookmarks`.
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
        self._bookmarks = Bookmarks(
            secret=secret,
            carrier=carrier,
            name=name,
            max_age=max_age,
            pin_seconds=pin_seconds,
            secure=secure,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        notes = current_notes.get()
        if scope["type"] not in {"http", "websocket"} or (
            notes is not None and scope.get(_SCOPE_KEY) is notes
        ):
            await self.app(scope, receive, send)
            return

        exchange = self._bookmarks.of_request(scope["headers"], scope.get("scheme"))
        notes = scope[_SCOPE_KEY] = exchange.notes
        started = False

        async def send_with_bookmark(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if bookmark := exchange.headers():
                    message = {**message, "headers": [*message.get("headers", ()), *bookmark]}
            await send(message)

        token = current_notes.set(notes)
        try:
            await self.app(scope, receive, send_with_bookmark)
        except Exception:
            if scope["type"] == "http" and exchange.must_respond() and not started:
                await _respond_500(send_with_bookmark)
            raise
        finally:
            current_notes.reset(token)


async def _respond_500(send: Send) -> None:
    body = b"Internal Server Error"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
