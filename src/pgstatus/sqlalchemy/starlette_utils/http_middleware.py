"""The middleware for Starlette, as a class and as a dispatch function.

Both commit before the first byte of the response, also of a streamed one. What its body or a
background task opens after that is committed by the class if everything succeeded, rolled back by
the function, and closed by both.
"""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware.base import (
    BaseHTTPMiddleware,
    DispatchFunction,
    RequestResponseEndpoint,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pgstatus.sqlalchemy.asgi_utils.middleware import (
    ASGIHTTPDBSessionMiddleware,
    pass_without_ctx,
)
from pgstatus.sqlalchemy.auto_commit import (
    BeforeCommitCallback,
    rollback_sessions,
    settle_sessions,
)
from pgstatus.sqlalchemy.context import (
    current_sessions,
    init_request_ctx,
    reset_db_session_ctx,
)
from pgstatus.sqlalchemy.sessions import Sessions


def add_starlette_http_db_session_middleware(
    app: Starlette, before_commit: BeforeCommitCallback | None = None
) -> None:
    """Add the middleware to ``app``."""
    app.add_middleware(StarletteHTTPDBSessionMiddleware, before_commit=before_commit)


class StarletteHTTPDBSessionMiddleware(BaseHTTPMiddleware):
    """Opens a context for each HTTP request; commits below status 400, otherwise rolls back.

    It can be subclassed or given a ``dispatch`` like any BaseHTTPMiddleware. Without either it runs
    as plain ASGI middleware, which avoids BaseHTTPMiddleware's task and streams.
    """

    def __init__(
        self,
        app: ASGIApp,
        dispatch: DispatchFunction | None = None,
        before_commit: BeforeCommitCallback | None = None,
    ) -> None:
        super().__init__(app, dispatch)
        self._before_commit = before_commit
        self._plain: ASGIHTTPDBSessionMiddleware | None = None
        if dispatch is None and type(self).dispatch is StarletteHTTPDBSessionMiddleware.dispatch:
            self._plain = ASGIHTTPDBSessionMiddleware(app, before_commit, commit_streamed="before")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._plain is not None:
            await self._plain(scope, receive, send)
        elif scope["type"] != "http":
            await pass_without_ctx(self.app, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await starlette_http_db_session_middleware(request, call_next, self._before_commit)


async def starlette_http_db_session_middleware(
    request: Request,
    call_next: RequestResponseEndpoint,
    before_commit: BeforeCommitCallback | None = None,
) -> Response:
    """The same as a function: ``app.add_middleware(BaseHTTPMiddleware, dispatch=this)``."""
    token = init_request_ctx(request.scope)
    if token is None:
        return await call_next(request)
    sessions = current_sessions()
    handed_over = False
    try:
        try:
            response = await call_next(request)
        except Exception:
            await rollback_sessions(sessions)
            raise
        await settle_sessions(sessions, response.status_code, before_commit)
        if (body := getattr(response, "body_iterator", None)) is not None:
            response.body_iterator = _closing(body, sessions)  # type: ignore[attr-defined]
            handed_over = True
        return response
    finally:
        await reset_db_session_ctx(token, with_close=not handed_over)


async def _closing(body: AsyncIterator[bytes], sessions: Sessions) -> AsyncIterator[bytes]:
    """``body``, and then the end of the sessions that it and background tasks opened.

    They are rolled back: an exception after the first byte is not visible here, so a commit could
    commit half of the work.
    """
    try:
        async for chunk in body:
            yield chunk
    finally:
        await sessions.end()
