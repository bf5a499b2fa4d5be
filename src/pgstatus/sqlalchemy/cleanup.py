"""Cleanup after a cancelled request, which is where connections are lost to their pool.

A cancellation can arrive at any await, also during the cleanup itself. The functions here ensure
that a connection is in its pool again, or closed, before the cancellation is passed on.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from sqlalchemy import Pool, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util import greenlet_spawn

logger = logging.getLogger("pgstatus.sqlalchemy")

T = TypeVar("T")

# A rollback is one round trip. A server that has not answered it after this time is frozen, and
# its connection is worth less than the time of the request that waits for it.
CLOSE_SECONDS = 5.0


_abandoned: set[asyncio.Task[Any]] = set()


async def finish(work: Coroutine[Any, Any, T], patience: float | None = None) -> T:
    """Run ``work`` to its end, then pass on a cancellation that arrived meanwhile.

    After ``patience`` seconds ``work`` is cancelled and continues in the background: TimeoutError.
    """
    task = asyncio.create_task(work)
    until = None if patience is None else time.monotonic() + patience
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            # The driver may need time to notice that no response comes. The event loop holds only
            # weak references to tasks.
            _abandoned.add(task)
            task.add_done_callback(_abandoned.discard)
            task.cancel()
            raise cancellation or TimeoutError
        try:
            # `wait` does not cancel the task when it is cancelled itself. Several cancellations
            # may arrive: a cancel scope repeats its own until the task has left.
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.warning("cleanup after a cancellation failed: %r", failure)
        raise cancellation
    return task.result()


async def close_session(session: AsyncSession) -> None:
    """Close ``session``; its connection is in the pool again, or closed, on return."""
    if not session.in_transaction():
        # No connection is checked out, so nothing here suspends and no cancellation can arrive.
        if type(session).close is AsyncSession.close:
            session.sync_session.close()  # what it does, without a greenlet
        else:
            await session.close()
        return
    await _patiently(session.close())


async def roll_back_session(session: AsyncSession) -> None:
    """Roll back ``session``, also if its connection is lost; it can be used again."""
    try:
        await _patiently(session.rollback())
    except Exception as error:
        logger.debug("rollback failed, session closed: %r", error)
        await close_session(session)


async def close_sessions(sessions: Iterable[AsyncSession]) -> None:
    """Close all sessions, also if one fails or the caller is cancelled; then raise that error."""
    failure: BaseException | None = None
    for session in sessions:
        try:
            await close_session(session)
        except asyncio.CancelledError as error:
            failure = error  # takes precedence: a task whose cancellation is lost never ends
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


async def dispose_engine(engine: AsyncEngine) -> None:
    """Close what is idle in the pool now, and what is in use as soon as it is returned.

    SQLAlchemy's own ``dispose`` detaches the connections in use from the pool: they are returned to
    the old pool and stay open until they are garbage-collected. It also waits for each server to
    end the connection, which a frozen one does not do.
    """
    pool = engine.sync_engine.pool
    await _patiently(engine.dispose())
    if isinstance(pool, QueuePool):
        if engine.sync_engine.pool is pool:
            engine.sync_engine.dispose(close=False)
        close_on_return(pool)
        while pool.checkedin():
            await _patiently(greenlet_spawn(pool.dispose))


def close_on_return(pool: Pool) -> None:
    """Close every connection that is returned to ``pool``."""

    def close(_: object, entry: ConnectionPoolEntry) -> None:
        entry.invalidate()

    event.listen(pool, "checkin", close)


async def _patiently(work: Coroutine[Any, Any, None]) -> None:
    try:
        await finish(work, CLOSE_SECONDS)
    except TimeoutError:
        logger.warning(
            "a server did not end a session within %g s: connection closed", CLOSE_SECONDS
        )
