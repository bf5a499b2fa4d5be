"""Cleaning up after a cancelled request, which is where connections leak.

A cancellation can arrive at any await, also at those of the cleanup itself; what is here makes sure
that a connection goes back to its pool, or is thrown away, before the cancellation goes on.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

logger = logging.getLogger("pgstatus.sqlalchemy")

T = TypeVar("T")

# A rollback is one round trip. A server that has not answered it for this long is frozen, and
# its connection is worth less than the request that waits for it.
CLOSE_SECONDS = 5.0


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end although the caller is cancelled meanwhile, then pass that on."""
    task = asyncio.create_task(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # `wait` leaves the task alone when it is cancelled itself. More than one cancellation
            # may come: a cancel scope repeats its own until the task has left.
            await asyncio.wait([task])
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
    await finish(_close(session))


async def _close(session: AsyncSession) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await session.close()
    except TimeoutError:
        logger.warning("a rollback took over %g s: its connection is dropped", CLOSE_SECONDS)


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
