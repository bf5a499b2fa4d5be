"""Carries a client's bookmark from the answer that wrote to the requests that read.

It is signed, so that nobody can send the reads of a whole service to the master with a position
that no replica will ever reach, and forgotten after ``max_age``.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Literal

from itsdangerous import BadData, URLSafeTimedSerializer

from pgstatus.sqlalchemy.bookmark import Bookmark, Notes, current_notes

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ReadYourWritesMiddleware:
    """Makes what a request wrote visible to the same client's next reads from replicas.

    Sessions of ``PgStatusCluster.master()`` note what they commit, by whatever way; those of
    ``.replica()`` go where it can be read. Put it *around* the session middleware (add it after):
    the other way round is right too, but sends reads to the master for ``pin_seconds`` after each
    write, as the position comes too late for the answer's headers. So does a write in a streamed
    answer that is committed after it. What a background task writes is not covered.

    secret: signs the bookmark; the last of several signs, all are accepted.
    carrier: ``cookie``, or a ``header`` in the answer that the client sends back as it is.
    name: of the cookie or header.
    max_age: seconds for which a bookmark counts; more than replicas are ever late.
    pin_seconds: seconds of reads on the master where a write's position is not known.
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
        secrets = [secret] if isinstance(secret, str) else list(secret)
        if not all(secrets) or not secrets:
            raise ValueError("secret must not be empty: anybody could sign a bookmark")
        self._signer = URLSafeTimedSerializer(secrets, salt="pg-status bookmark", serializer=_Json)
        self._carrier = carrier
        self._name = name.encode("ascii").lower()
        self._max_age = max_age
        self._pin_seconds = pin_seconds
        self._attributes = f"; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax" + (
            "; Secure" if secure else ""
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return

        notes = Notes(self._brought(scope), self._pin_seconds)

        async def send_with_bookmark(message: Message) -> None:
            if message["type"] == "http.response.start":
                notes.pin_unfinished()
                if notes.wrote:
                    headers = [*message.get("headers", ()), self._header(notes)]
                    message = {**message, "headers": headers}
            await send(message)

        token = current_notes.set(notes)
        try:
            await self.app(scope, receive, send_with_bookmark)
        finally:
            current_notes.reset(token)

    def _brought(self, scope: Scope) -> dict[str, Bookmark]:
        """The bookmarks in the request; none, when they are forged, too old or not there."""
        signed = _cookie(scope, self._name) if self._carrier == "cookie" else None
        if self._carrier == "header":
            signed = next((value for name, value in scope["headers"] if name == self._name), None)
        if signed is None:
            return {}
        try:
            marks = self._signer.loads(signed, max_age=self._max_age)
        except BadData:
            return {}
        return {name: Bookmark(*mark) for name, mark in marks.items()}

    def _header(self, notes: Notes) -> tuple[bytes, bytes]:
        marks = {
            name: (mark.timeline, mark.lsn, int(mark.pinned_until + 1) if mark.is_pinned() else 0)
            for name, mark in notes.marks.items()
        }
        signed = str(self._signer.dumps(marks))
        if self._carrier == "header":
            return self._name, signed.encode("ascii")
        cookie = f"{self._name.decode('ascii')}={signed}{self._attributes}"
        return b"set-cookie", cookie.encode("ascii")


def _cookie(scope: Scope, wanted: bytes) -> bytes | None:
    for header, value in scope["headers"]:
        if header == b"cookie":
            for pair in bytes(value).split(b";"):
                name, _, content = pair.strip().partition(b"=")
                if name == wanted:
                    return content
    return None


class _Json:
    """JSON without its blanks: a cookie goes with every request."""

    @staticmethod
    def dumps(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    @staticmethod
    def loads(text: str) -> Any:
        return json.loads(text)
