"""The middleware for every ASGI framework: one context per request, whose transactions it ends.

It determines the order of commit and response. A response with a declared length is committed
before its first byte, so that no client receives 200 for a transaction that then fails to commit. A
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
    hide_foreign_ctx,
    init_request_ctx,
    reset_db_session_ctx,
    restore_ctx,
)
from pgstatus.sqlalchemy.streamed import is_streamed

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ASGIHTTPDBSessionMiddleware:
    """Opens a context for each HTTP request; commits below status 400, otherwise rolls back.

    Websockets and the lifespan protocol have no context. A request whose ASGI scope has a context
    already (an outer middleware), or that is called inside a test's context, is passed through. An
    exception rolls back what is open and is passed on to the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        before_commit: BeforeCommitCallback | None = None,
        *,
        commit_streamed: Literal["before", "after"] = "after",
    ) -> None:
        """``before_commit`` is awaited with each session before its commit.

        ``commit_streamed`` is when a response without Content-Length is committed: ``after`` its
        last byte (the body can be read from a cursor of the handler; a failed commit can no longer
        be reported to the client), or ``before`` its first byte (what the body then opens is a new
        transaction).
        """
        self.app = app
        self._before_commit = before_commit
        self._commit_streamed = commit_streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await pass_without_ctx(self.app, scope, receive, send)
            return
        token = init_request_ctx(scope)
        if token is None:
            await self.app(scope, receive, send)
            return

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
                        await settle_sessions(sessions, status, self._before_commit)
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
                await rollback_sessions(sessions)
                if failure is not None and error is not failure:
                    # The framework has an exception handler for it, but cannot respond any more.
                    raise failure from None
                raise
            # What a streamed body or a background task opened. A response that was interrupted
            # because the client disconnected is not committed.
            if complete:
                await settle_sessions(sessions, status, self._before_commit)
        finally:
            await reset_db_session_ctx(token)


async def pass_without_ctx(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call ``app`` without a context that the server's task has inherited from another request."""
    hidden = hide_foreign_ctx()
    try:
        await app(scope, receive, send)
    finally:
        restore_ctx(hidden)


def _is_streamed(start: Message) -> bool:
    names = (bytes(name).decode("latin-1") for name, _ in start.get("headers", ()))
    return is_streamed(start["status"], names)
