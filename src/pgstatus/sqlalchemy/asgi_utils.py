"""The middleware for every ASGI framework: one context per request, its transactions ended by it.

The order of commit and answer is decided here. An answer whose length is declared is committed
before its first byte, so that nobody is told 200 about something that then fails to commit. A
streamed one may still be reading from the transaction: see ``commit_streamed``.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from pgstatus.sqlalchemy.auto_commit import (
    BeforeCommitCallback,
    rollback_sessions,
    settle_sessions,
)
from pgstatus.sqlalchemy.context import (
    current_sessions,
    init_db_session_ctx,
    is_context_initiated,
    reset_db_session_ctx,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ASGIHTTPDBSessionMiddleware:
    """Opens a context for each HTTP request; commits below status 400, else rolls back.

    Websockets and lifespan pass untouched, and so does a request inside a context that is open
    already (a test's). An exception rolls back what is open and goes on to the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        before_commit: BeforeCommitCallback | None = None,
        *,
        commit_streamed: Literal["before", "after"] = "after",
    ) -> None:
        """``before_commit`` is awaited with each session that is about to commit.

        ``commit_streamed`` is when an answer without Content-Length is committed: ``after`` its
        last byte (a cursor of the handler can feed it; a failed commit can no longer be told to
        the client), or ``before`` its first (what the body then opens is a new transaction).
        """
        self.app = app
        self._before_commit = before_commit
        self._commit_streamed = commit_streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_context_initiated():
            await self.app(scope, receive, send)
            return

        token = init_db_session_ctx()
        sessions = current_sessions()
        status = 0
        complete = False
        failure: Exception | None = None

        async def settle_then_send(message: Message) -> None:
            nonlocal status, complete, failure
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._commit_streamed == "before" or not _is_streamed(message):
                    try:
                        await settle_sessions(sessions.values(), status, self._before_commit)
                    except Exception as error:
                        failure = error
                        raise
            await send(message)
            if message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            elif message["type"] == "http.response.pathsend":
                complete = True

        try:
            try:
                await self.app(scope, receive, settle_then_send)
            except Exception as error:
                await rollback_sessions(sessions.values())
                if failure is not None and error is not failure:
                    # A framework that has an exception handler for it, but no answer left to give.
                    raise failure from None
                raise
            # What a streamed body or a background task opened. An answer that broke off, because
            # the client went away, is no success: its transaction is not committed.
            if complete:
                await settle_sessions(sessions.values(), status, self._before_commit)
        finally:
            await reset_db_session_ctx(token)


def _is_streamed(start: Message) -> bool:
    if start["status"] < 200 or start["status"] in {204, 304}:
        return False
    return all(bytes(name).lower() != b"content-length" for name, _ in start.get("headers", ()))
