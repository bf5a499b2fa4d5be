"""Cleaning up after a cancelled request, which is where connections leak.

A cancellation can arrive at any await, also at those of the cleanup itself; what is here makes sure
that a connection goes back to its pool, or is thrown away, before the cancellation goes on.
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

# A rollback is one round trip. A server that has not answered it for this long is frozen, and
# its connection is worth less than the request that waits for it.
CLOSE_SECONDS = 5.0


_abandoned: set[asyncio.Task[Any]] = set()


async def finish(work: Coroutine[Any, Any, T], patience: float | None = None) -> T:
    """Run ``work`` to its end although the caller is cancelled meanwhile, then pass that on.

    After ``patience`` seconds it is cancelled and left to itself: TimeoutError.
    """
    task = asyncio.create_task(work)
    until = None if patience is None else time.monotonic() + patience
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            # The driver may take its time to see that nobody answers. The loop alone would let
            # go of a task that nobody holds.
            _abandoned.add(task)
            task.add_done_callback(_abandoned.discard)
            task.cancel()
            raise cancellation or TimeoutError
        try:
            # `wait` leaves the task alone when it is cancelled itself. More than one cancellation
            # may come: a cancel scope repeats its own until the task has left.
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.warning("cleanup after a cancellation failed: %r", failure)
        raise cancellation
    return task.result()


async def close_session(session: AsyncSession) -> None:
    """Close ``session``; its connection is back in the pool, or thrown away, on return."""
    if not session.in_transaction():
        # Nothing is checked out, so nothing here suspends and no cancellation can come between.
        await session.close()
        return
    await _patiently(session.close())


async def close_sessions(sessions: Iterable[AsyncSession]) -> None:
    """Close all of them, also when one fails or the caller is cancelled; then raise that."""
    failure: BaseException | None = None
    for session in sessions:
        try:
            await close_session(session)
        except asyncio.CancelledError as error:
            failure = error  # over any other: a swallowed cancellation is a task that never ends
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


async def dispose_engine(engine: AsyncEngine) -> None:
    """Close what is idle in the pool now, and what is in use as soon as it is given back.

    SQLAlchemy's own ``dispose`` forgets the connections in use: they are given back to a pool that
    nobody has any more, and stay open until the garbage collector complains. And it waits for each
    server to say goodbye, which one that is frozen never does.
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
    """Let no connection stay in ``pool``."""

    def close(_: object, entry: ConnectionPoolEntry) -> None:
        entry.invalidate()

    event.listen(pool, "checkin", close)


async def _patiently(work: Coroutine[Any, Any, None]) -> None:
    try:
        await finish(work, CLOSE_SECONDS)
    except TimeoutError:
        logger.warning("a server did not let go within %g s: connection dropped", CLOSE_SECONDS)
