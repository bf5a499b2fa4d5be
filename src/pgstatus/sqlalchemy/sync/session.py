# Generated from pgstatus/sqlalchemy/session.py: see `make unasync`.
"""Functions for application code: the session of this context, and the end of its transaction."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal, get_args

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from pgstatus.bookmarks.bookmark import current_notes
from pgstatus.sqlalchemy.sync.cleanup import close_session
from pgstatus.sqlalchemy.sync.connect import DBConnect
from pgstatus.sqlalchemy.sync.context import (
    ContextNotInitiatedError,
    current_sessions,
    current_sessions_or_none,
    get_db_session_from_context,
    pop_db_session_from_context,
)

CurrentTransaction = Literal["commit", "rollback", "append", "raise"]


def db_session(connect: DBConnect) -> Session:
    """The session of this context: created by the first call, the same one for later calls.

    It takes a connection at its first query. The code that opened the context, usually a
    middleware, commits and closes it. A session that follows pg-status and has no open transaction
    moves to another host if its own may not be used any more. ContextNotInitiatedError: no context
    is open.
    """
    return current_sessions().open(connect)


def use_master() -> None:
    """Let reads of the rest of this request, or of this context, go to the master.

    It affects sessions of ``PgStatusCluster.replica()`` requested from now on, also in contexts
    opened later by ``run_in_new_ctx``. ContextNotInitiatedError: no context is open.
    """
    sessions, notes = current_sessions_or_none(), current_notes.get()
    if sessions is None and notes is None:
        raise ContextNotInitiatedError
    if sessions is not None:
        sessions.master_only = True
    if notes is not None:
        notes.master_only = True


@contextmanager
def atomic_db_session(
    connect: DBConnect, current_transaction: CurrentTransaction = "commit"
) -> Generator[Session]:
    """The session of this context in a transaction of its own, committed at the end of the block.

    An exception rolls it back. ``current_transaction`` determines what happens to a transaction
    that is already open: ``commit`` or ``rollback`` end it first, ``append`` continues it (and
    commits it at the end), ``raise`` raises InvalidRequestError.
    """
    if current_transaction not in get_args(CurrentTransaction):
        raise ValueError(f"current_transaction is one of {get_args(CurrentTransaction)}")
    session = db_session(connect)
    if current_transaction == "append":
        try:
            yield session
        except BaseException:
            session.rollback()
            raise
        session.commit()
        return
    if session.in_transaction():
        match current_transaction:
            case "commit":
                session.commit()
            case "rollback":
                session.rollback()
            case "raise":
                raise InvalidRequestError("Session already has an open transaction")
    with session.begin():
        yield session


def commit_db_session(connect: DBConnect) -> None:
    """Commit now, if this context has a session with an open transaction."""
    session = get_db_session_from_context(connect)
    if session is not None and session.in_transaction():
        session.commit()


def rollback_db_session(connect: DBConnect) -> None:
    """Roll back now, if this context has a session with an open transaction."""
    session = get_db_session_from_context(connect)
    if session is not None and session.in_transaction():
        session.rollback()


def close_db_session(connect: DBConnect) -> None:
    """Close the session now and return its connection; uncommitted work is rolled back.

    For work that continues without the database. The next ``db_session`` creates a new session.
    """
    session = pop_db_session_from_context(connect)
    if session is not None:
        close_session(session)


@contextmanager
def new_non_ctx_session(connect: DBConnect) -> Generator[Session]:
    """A session outside of any context, closed at the end of the block. The caller commits."""
    sessions = current_sessions_or_none()
    session = connect.create_session() if sessions is None else sessions.create(connect)
    try:
        yield session
    finally:
        close_session(session)


@contextmanager
def new_non_ctx_atomic_session(connect: DBConnect) -> Generator[Session]:
    """A session outside of any context, in a transaction committed at the end of the block.

    An exception rolls it back.
    """
    with new_non_ctx_session(connect) as session, session.begin():
        yield session
