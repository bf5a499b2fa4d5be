"""The sessions of one request, in a context variable.

A thread starts without a context, and a request runs in a copy of the context of its thread (see
`wsgi`), so that nothing remains for the next request of this thread.
"""

from contextvars import ContextVar, Token
from typing import Any

from sqlalchemy.orm import Session

# The aliases are exports: these are the exceptions of both packages.
from pgstatus.sqlalchemy.context import (
    ContextAlreadyInitiatedError as ContextAlreadyInitiatedError,  # noqa: PLC0414
)
from pgstatus.sqlalchemy.context import (
    ContextNotInitiatedError as ContextNotInitiatedError,  # noqa: PLC0414
)
from pgstatus.sqlalchemy.sync.connect import DBConnect
from pgstatus.sqlalchemy.sync.sessions import Sessions

_ENVIRON_KEY = "pgstatus.sessions"

_sessions: ContextVar[Sessions | None] = ContextVar("pgstatus_sync_sessions", default=None)


def current_sessions() -> Sessions:
    """The container of this context. ContextNotInitiatedError: no context is open."""
    sessions = _sessions.get()
    if sessions is None:
        raise ContextNotInitiatedError
    return sessions


def current_sessions_or_none() -> Sessions | None:
    """The container of this context, or None."""
    return _sessions.get()


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

    ContextAlreadyInitiatedError: this thread, or a test, has opened one already.
    """
    current = _live()
    if current is not None and (current.shared or current.is_of_this_thread()):
        raise ContextAlreadyInitiatedError
    return _sessions.set(Sessions(shared=True))


def request_has_ctx(environ: dict[str, Any]) -> bool:
    """Whether the request of ``environ`` has a context that it uses.

    An outer middleware has opened it, or a test or this thread around the call of the application.
    """
    current = _live()
    return current is not None and (
        current.shared
        or environ.get(_ENVIRON_KEY) is current
        or (current.is_of_this_thread() and not current.of_request)
    )


def init_request_ctx(environ: dict[str, Any]) -> Sessions:
    """Open the context of the request of ``environ``, for the rest of this copy of the context."""
    sessions = environ[_ENVIRON_KEY] = Sessions(of_request=True)
    _sessions.set(sessions)
    return sessions


def _live() -> Sessions | None:
    sessions = _sessions.get()
    return None if sessions is None or sessions.ended else sessions


def is_context_initiated() -> bool:
    """Whether a context is open here."""
    return _live() is not None


def reset_db_session_ctx(token: Token[Sessions | None], with_close: bool = True) -> None:
    """Leave the context of ``token``, closing its sessions unless ``with_close`` is false."""
    try:
        sessions = _sessions.get()
        if with_close and sessions is not None:
            sessions.end()
    finally:
        _sessions.reset(token)


def get_db_session_from_context(connect: DBConnect) -> Session | None:
    """The session of ``connect``, if this context has one already."""
    return current_sessions().get(connect.context_key)


def put_db_session_to_context(connection: DBConnect, session: Session) -> None:
    """Make ``session`` the session of ``connection`` in this context.

    A session that it replaces is not closed.
    """
    current_sessions()[connection.context_key] = session


def pop_db_session_from_context(connect: DBConnect) -> Session | None:
    """Remove the session of ``connect`` and return it; the caller closes it. None: no session."""
    sessions = _sessions.get()
    return None if sessions is None else sessions.pop(connect.context_key, None)
