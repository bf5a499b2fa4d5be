"""The sessions of one request, shared by all of its coroutines through a context variable.

The variable holds one container, and a child task inherits the variable, so sessions that a child
task creates are visible to the code that opened the context, which commits and closes them.

A context belongs to the code that opened it. An ASGI server may start the task of a request in a
copy of the context of an earlier request (cpython#140947, HTTP pipelining), so the presence of a
container proves nothing: a middleware uses a container only if it belongs to the same ASGI scope,
to the same task, or to a test.
"""

from collections.abc import Generator, MutableMapping
from contextvars import ContextVar, Token
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.sessions import Sessions

_SCOPE_KEY = "pgstatus.sessions"


class ContextAlreadyInitiatedError(Exception):
    """A context is open already, and a nested one was not requested with ``force``."""

    def __init__(self, message: str = "Context already initiated") -> None:
        super().__init__(message)


class ContextNotInitiatedError(Exception):
    """No context is open: no middleware, ``run_in_new_ctx`` or ``set_test_context`` is active."""

    def __init__(self, message: str = "Context is not initiated") -> None:
        super().__init__(message)


_sessions: ContextVar[Sessions | None] = ContextVar("pgstatus_sessions", default=None)


def current_sessions() -> Sessions:
    """The container of this context. ContextNotInitiatedError: no context is open."""
    sessions = _sessions.get()
    if sessions is None:
        raise ContextNotInitiatedError
    return sessions


def current_sessions_or_none() -> Sessions | None:
    """The container of this context, or None."""
    return _sessions.get()


def sessions_stream() -> Generator[AsyncSession, None, None]:
    """The sessions of this context one after another. ContextNotInitiatedError: none is open."""
    yield from current_sessions().everything()


def init_db_session_ctx(force: bool = False) -> Token[Sessions | None]:
    """Open a context and return the token that ``reset_db_session_ctx`` closes it with.

    With ``force`` it may be nested in another context, which is restored by the reset.
    """
    outer = _live()
    if outer is not None and not force:
        raise ContextAlreadyInitiatedError
    return _sessions.set(Sessions(outer))


def init_shared_ctx() -> Token[Sessions | None]:
    """Open a context that middlewares use instead of opening their own: a test's.

    ContextAlreadyInitiatedError: this task, or a test, has opened one already.
    """
    current = _live()
    if current is not None and (current.shared or current.is_of_this_task()):
        raise ContextAlreadyInitiatedError
    return _sessions.set(Sessions(shared=True))


def init_request_ctx(scope: MutableMapping[str, Any]) -> Token[Sessions | None] | None:
    """Open the context of the request of ``scope``.

    None: the request has one already (an outer middleware), or a test or this task opened one
    around the call of the application.
    """
    current = _live()
    if current is not None and (
        current.shared
        or scope.get(_SCOPE_KEY) is current
        or (current.is_of_this_task() and not current.of_request)
    ):
        return None
    sessions = Sessions(of_request=True)
    scope[_SCOPE_KEY] = sessions
    return _sessions.set(sessions)


def hide_foreign_ctx() -> Token[Sessions | None] | None:
    """Hide a context that belongs to another request; the token restores it. None: there is none.

    For connections without a context of their own: websockets and the lifespan protocol.
    """
    current = _sessions.get()
    if current is None or current.shared or current.is_of_this_task():
        return None
    return _sessions.set(None)


def restore_ctx(token: Token[Sessions | None] | None) -> None:
    """Undo ``hide_foreign_ctx``."""
    if token is not None:
        _sessions.reset(token)


def _live() -> Sessions | None:
    sessions = _sessions.get()
    return None if sessions is None or sessions.ended else sessions


def is_context_initiated() -> bool:
    """Whether a context is open here."""
    return _live() is not None


async def reset_db_session_ctx(token: Token[Sessions | None], with_close: bool = True) -> None:
    """Leave the context of ``token``, closing its sessions unless ``with_close`` is false."""
    try:
        sessions = _sessions.get()
        if with_close and sessions is not None:
            await sessions.end()
    finally:
        _sessions.reset(token)


def get_db_session_from_context(connect: DBConnect) -> AsyncSession | None:
    """The session of ``connect``, if this context has one already."""
    return current_sessions().get(connect.context_key)


def put_db_session_to_context(connection: DBConnect, session: AsyncSession) -> None:
    """Make ``session`` the session of ``connection`` in this context.

    A session that it replaces is not closed.
    """
    current_sessions()[connection.context_key] = session


def pop_db_session_from_context(connect: DBConnect) -> AsyncSession | None:
    """Remove the session of ``connect`` and return it; the caller closes it. None: no session."""
    sessions = _sessions.get()
    return None if sessions is None else sessions.pop(connect.context_key, None)
