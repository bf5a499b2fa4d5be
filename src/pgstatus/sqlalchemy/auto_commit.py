"""Ends the transactions of a whole context at once, as a middleware does.

Each database commits separately: if the second of two commits fails, the first one stands.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.context import current_sessions
from pgstatus.sqlalchemy.sessions import Sessions

BeforeCommitCallback = Callable[[AsyncSession], Coroutine[Any, Any, None]]


async def commit_all_sessions(before_commit: BeforeCommitCallback | None = None) -> None:
    """Commit every open transaction of this context.

    ``before_commit`` is awaited with each session before its commit; if it raises, that session
    and the following ones are not committed.
    """
    await _commit(current_sessions().everything(), before_commit)


async def rollback_all_sessions() -> None:
    """Roll back every open transaction of this context."""
    await rollback_sessions(current_sessions())


async def close_all_sessions() -> None:
    """Close every session of this context; what was not committed is rolled back."""
    await current_sessions().close_all()


async def auto_commit_by_status_code(
    status_code: int, before_commit: BeforeCommitCallback | None = None
) -> None:
    """Commit every open transaction for a status below 400, otherwise roll all of them back."""
    if status_code < 400:
        await commit_all_sessions(before_commit)
    else:
        await rollback_all_sessions()


async def settle_sessions(
    sessions: Sessions, status_code: int, before_commit: BeforeCommitCallback | None = None
) -> None:
    """End the transactions of a request by the status of its response.

    Loaded objects are not expired by this commit: a background task or the body of the response
    may still read them. PendingRollbackError: a transaction of the request was lost before.
    """
    if status_code >= 400:
        await rollback_sessions(sessions)
        return
    if sessions.lost_transaction:
        raise PendingRollbackError(
            "The connection was lost during a transaction of this request, and the error was not "
            "followed by a rollback; what the transaction had written is lost."
        )
    await _commit(sessions.everything(), before_commit, keep_loaded=True)


async def rollback_sessions(sessions: Sessions) -> None:
    """Roll back every open transaction; all are tried, then the first error is raised."""
    failure: Exception | None = None
    for session in sessions.everything():
        if session.in_transaction():
            try:
                await session.rollback()
            except Exception as error:
                failure = failure or error
    if failure is not None:
        raise failure


async def _commit(
    sessions: Iterable[AsyncSession],
    before_commit: BeforeCommitCallback | None,
    *,
    keep_loaded: bool = False,
) -> None:
    for session in sessions:
        if not session.in_transaction():
            continue
        if before_commit is not None:
            await before_commit(session)
        if not keep_loaded:
            await session.commit()
            continue
        expires = session.sync_session.expire_on_commit
        session.sync_session.expire_on_commit = False
        try:
            await session.commit()
        finally:
            session.sync_session.expire_on_commit = expires
