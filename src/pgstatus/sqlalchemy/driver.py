"""Statements sent with the driver's own connection, without SQLAlchemy's transaction around them.

asyncpg and psycopg are distinguished by their interface, so neither has to be installed. The
drivers for threads are in `sync.driver`.
"""

import asyncio
from typing import Any

from sqlalchemy.util import await_only

# A server that does not return a row in this time is not worth more of the client's time.
ROW_SECONDS = 2.0

_PSYCOPG_IDLE = 0


def command_tag(driver: Any, statements: str) -> str:
    """Run statements without parameters in one round trip; the command tag of the last one."""
    return str(await_only(_command_tag(driver, statements)))


def row(driver: Any, query: str) -> tuple[Any, ...]:
    """The first row of a query, in one round trip that begins no transaction. TimeoutError."""
    found: tuple[Any, ...] = await_only(asyncio.wait_for(_row(driver, query), ROW_SECONDS))
    return found


def in_transaction(driver: Any) -> bool:
    """Whether the server has a transaction open on this connection."""
    if hasattr(driver, "is_in_transaction"):
        return bool(driver.is_in_transaction())
    return bool(driver.info.transaction_status != _PSYCOPG_IDLE)


def is_closed(driver: Any) -> bool:
    """Whether the connection is known to be lost."""
    closed = driver.is_closed() if hasattr(driver, "is_closed") else driver.closed
    return bool(closed)


async def _row(driver: Any, query: str) -> tuple[Any, ...]:
    if hasattr(driver, "fetchrow"):
        return tuple(await driver.fetchrow(query))
    if driver.autocommit or in_transaction(driver):
        return await _psycopg_row(driver, query)
    await driver.set_autocommit(True)  # a flag of the client: no round trip
    try:
        return await _psycopg_row(driver, query)
    finally:
        await driver.set_autocommit(False)


async def _psycopg_row(driver: Any, query: str) -> tuple[Any, ...]:
    # The application may have chosen another class for rows.
    async with driver.cursor(row_factory=lambda _: tuple) as cursor:
        await cursor.execute(query)
        return tuple(await cursor.fetchone())


async def _command_tag(driver: Any, statements: str) -> str:
    if hasattr(driver, "fetchrow"):
        return str(await driver.execute(statements))
    cursor = await driver.execute(statements, prepare=False)
    while cursor.nextset():
        pass
    return str(cursor.statusmessage)
