"""Retry a whole transaction through a failover.

Only a whole transaction can be repeated: what it has read may have changed, and PostgreSQL has
rolled back everything that it has written. So ``work`` opens the transaction, commits it, and has
no other effect; it is repeated before the response has started. An error during the commit itself
leaves open whether it took effect: the repeated transaction may be a second one. Where that
matters, let the client send a key of its own and store it with a unique constraint.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pgstatus.client import ClientError

T = TypeVar("T")

# Connection lost, host shutting down or starting, no longer the master; and the two errors for
# which PostgreSQL itself recommends a retry: serialization failure and deadlock.
RETRIED = ("08", "57P01", "57P02", "57P03", "25006", "40001", "40P01")


async def retried(work: Callable[[], Awaitable[T]], seconds: float = 5.0) -> T:
    """``await work()``, repeated for up to ``seconds`` while the host is lost or changes."""
    until = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return await work()
        except (DBAPIError, ClientError, PoolTimeoutError, OSError) as error:
            if not is_temporary(error) or time.monotonic() + pause > until:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.5)


def is_temporary(error: BaseException) -> bool:
    """Whether the same transaction may succeed soon, on this host or on another."""
    if not isinstance(error, DBAPIError):
        return True  # pg-status names no host, the pool is exhausted, or no connection is made
    if error.connection_invalidated:
        return True
    sqlstate = getattr(error.orig, "sqlstate", None)
    # psycopg reports a failed connection attempt without SQLSTATE.
    return sqlstate is None or str(sqlstate).startswith(RETRIED)
