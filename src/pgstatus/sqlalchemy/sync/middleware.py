"""The middleware for every WSGI framework: one context per request, whose transactions it ends.

It determines the order of commit and response. A response that is complete, or has a declared
length, is committed before its first byte, so that no client receives 200 for a transaction that
then fails to commit. A streamed one may still be reading from the transaction: see
``commit_streamed``.
"""

from collections.abc import Iterable
from typing import Literal

from pgstatus.sqlalchemy.sync.auto_commit import (
    BeforeCommitCallback,
    rollback_sessions,
    settle_sessions,
)
from pgstatus.sqlalchemy.sync.context import init_request_ctx, request_has_ctx
from pgstatus.sqlalchemy.sync.sessions import Sessions
from pgstatus.sqlalchemy.sync.wsgi import Environ, Exchange, Headers, StartResponse, WSGIApp


class WSGIDBSessionMiddleware:
    """Opens a context for each request; commits below status 400, otherwise rolls back.

    For Flask: ``app.wsgi_app = WSGIDBSessionMiddleware(app.wsgi_app)``. A request that has a
    context already (an outer middleware), or that is called inside a test's context, is passed
    through. An exception rolls back what is open and is passed on to the server.
    """

    def __init__(
        self,
        app: WSGIApp,
        before_commit: BeforeCommitCallback | None = None,
        *,
        commit_streamed: Literal["before", "after"] = "after",
    ) -> None:
        """``before_commit`` is called with each session before its commit.

        ``commit_streamed`` is when a generated response without Content-Length is committed:
        ``after`` its last part (the body can be read from a cursor of the handler; a failed commit
        breaks the connection off), or ``before`` its first one (what the body then opens is a new
        transaction).
        """
        self.app = app
        self.before_commit = before_commit
        self.commit_streamed = commit_streamed

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if request_has_ctx(environ):
            return self.app(environ, start_response)
        return _Request(self, environ, start_response).run()


class _Request(Exchange):
    def __init__(
        self, middleware: WSGIDBSessionMiddleware, environ: Environ, start_response: StartResponse
    ) -> None:
        super().__init__(middleware.app, environ, start_response)
        self._middleware = middleware
        self._sessions = Sessions()

    def enter(self) -> None:
        self._sessions = init_request_ctx(self.environ)

    def head(self, status: int, headers: Headers, *, streamed: bool) -> Headers:
        if not streamed or self._middleware.commit_streamed == "before":
            self.complete(status)
        return headers

    def complete(self, status: int) -> None:
        # Also what was opened since: by the body, or by a function that runs when it is closed.
        settle_sessions(self._sessions, status, self._middleware.before_commit)

    def failed(self, error: Exception) -> None:
        rollback_sessions(self._sessions)

    def leave(self) -> None:
        self._sessions.end()
