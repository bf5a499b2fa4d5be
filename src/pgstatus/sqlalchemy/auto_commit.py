"""Ending the transactions of a whole context at once, as a middleware does.

Each database commits for itself: when the second of two fails, the first one's commit stands.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.context import current_sessions

BeforeCommitCallback = Callable[[AsyncSession], Coroutine[Any, Any, None]]


async def commit_all_sessions(before_commit: BeforeCommitCallback | None = None) -> None:
    """Commit every open transaction of this context.

    ``before_commit`` is awaited with each session that is about to commit; if it raises, that
    session and the ones after it are not committed.
    """
    await commit_sessions(current_sessions().values(), before_commit)


async def rollback_all_sessions() -> None:
    """Roll back every open transaction of this context."""
    await rollback_sessions(current_sessions().values())


async def close_all_sessions() -> None:
    """Close every session of this context; what was not committed is rolled back."""
    await current_sessions().close_all()


async def auto_commit_by_status_code(
    status_code: int, before_commit: BeforeCommitCallback | None = None
) -> None:
    """Commit every open transaction for a status below 400, else roll all of them back."""
    await settle_sessions(current_sessions().values(), status_code, before_commit)


async def settle_sessions(
    sessions: Iterable[AsyncSession],
    status_code: int,
    before_commit: BeforeCommitCallback | None = None,
) -> None:
    """``auto_commit_by_status_code`` for sessions at hand."""
    if status_code < 400:
        await commit_sessions(sessions, before_commit)
    else:
        await rollback_sessions(sessions)


async def commit_sessions(
    sessions: Iterable[AsyncSession], before_commit: BeforeCommitCallback | None = None
) -> None:
    """``commit_all_sessions`` for sessions at hand."""
    for session in tuple(sessions):
        if session.in_transaction():
            if before_commit is not None:
                await before_commit(session)
            await session.commit()


async def rollback_sessions(sessions: Iterable[AsyncSession]) -> None:
    """``rollback_all_sessions`` for sessions at hand; all are tried, the first error is raised."""
    failure: Exception | None = None
    for session in tuple(sessions):
        if session.in_transaction():
            try:
                await session.rollback()
            except Exception as error:
                failure = failure or error
    if failure is not None:
        raise failure
