# Generated from pgstatus/sqlalchemy/auto_commit.py: see `make unasync`.
"""Ends the transactions of a whole context at once, as a middleware does.

Each database commits separately: if the second of two commits fails, the first one stands.
"""

from collections.abc import Callable, Iterable

from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.orm import Session

from pgstatus.sqlalchemy.sync.context import current_sessions
from pgstatus.sqlalchemy.sync.sessions import Sessions

BeforeCommitCallback = Callable[[Session], None]


def commit_all_sessions(before_commit: BeforeCommitCallback | None = None) -> None:
    """Commit every open transaction of this context.

    ``before_commit`` is called with each session before its commit; if it raises, that session
    and the following ones are not committed.
    """
    _commit(current_sessions().everything(), before_commit)


def rollback_all_sessions() -> None:
    """Roll back every open transaction of this context."""
    rollback_sessions(current_sessions())


def close_all_sessions() -> None:
    """Close every session of this context; what was not committed is rolled back."""
    current_sessions().close_all()


def auto_commit_by_status_code(
    status_code: int, before_commit: BeforeCommitCallback | None = None
) -> None:
    """Commit every open transaction for a status below 400, otherwise roll all of them back."""
    if status_code < 400:
        commit_all_sessions(before_commit)
    else:
        rollback_all_sessions()


def settle_sessions(
    sessions: Sessions, status_code: int, before_commit: BeforeCommitCallback | None = None
) -> None:
    """End the transactions of a request by the status of its response.

    Loaded objects are not expired by this commit: a background task or the body of the response
    may still read them. PendingRollbackError: a transaction of the request was lost before.
    """
    if status_code >= 400:
        rollback_sessions(sessions)
        return
    if sessions.lost_transaction:
        raise PendingRollbackError(
            "The connection was lost during a transaction of this request, and the error was not "
            "followed by a rollback; what the transaction had written is lost."
        )
    _commit(sessions.everything(), before_commit, keep_loaded=True)


def rollback_sessions(sessions: Sessions) -> None:
    """Roll back every open transaction; all are tried, then the first error is raised."""
    failure: Exception | None = None
    for session in sessions.everything():
        if session.in_transaction():
            try:
                session.rollback()
            except Exception as error:
                failure = failure or error
    if failure is not None:
        raise failure


def _commit(
    sessions: Iterable[Session],
    before_commit: BeforeCommitCallback | None,
    *,
    keep_loaded: bool = False,
) -> None:
    for session in sessions:
        if not session.in_transaction():
            continue
        if before_commit is not None:
            before_commit(session)
        if not keep_loaded:
            session.commit()
            continue
        expires = session.expire_on_commit
        session.expire_on_commit = False
        try:
            session.commit()
        finally:
            session.expire_on_commit = expires
