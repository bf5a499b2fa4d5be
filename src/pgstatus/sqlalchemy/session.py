"""What application code calls: the session of this context, and the ends of its transaction."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, get_args

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.cleanup import close_session
from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.context import (
    current_sessions,
    get_db_session_from_context,
    pop_db_session_from_context,
)

CurrentTransaction = Literal["commit", "rollback", "append", "raise"]


async def db_session(connect: DBConnect) -> AsyncSession:
    """The session of this context: made at the first call, the same one from then on.

    It takes a connection at its first query. The one who opened the context, usually a middleware,
    commits and closes it. ContextNotInitiatedError: nobody opened one.
    """
    return await current_sessions().open(connect)


@asynccontextmanager
async def atomic_db_session(
    connect: DBConnect, current_transaction: CurrentTransaction = "commit"
) -> AsyncGenerator[AsyncSession]:
    """The session of this context in a transaction of its own, committed on leaving the block.

    An exception rolls it back. ``current_transaction`` says what becomes of one already open:
    ``commit`` or ``rollback`` end it first, ``append`` goes on with it (and commits it on
    leaving), ``raise`` is an InvalidRequestError.
    """
    if current_transaction not in get_args(CurrentTransaction):
        raise ValueError(f"current_transaction is one of {get_args(CurrentTransaction)}")
    session = await db_session(connect)
    if current_transaction == "append":
        try:
            yield session
        except BaseException:
            await session.rollback()
            raise
        await session.commit()
        return
    if session.in_transaction():
        match current_transaction:
            case "commit":
                await session.commit()
            case "rollback":
                await session.rollback()
            case "raise":
                raise InvalidRequestError("Session already has an open transaction")
    async with session.begin():
        yield session


async def commit_db_session(connect: DBConnect) -> None:
    """Commit now, if this context has a session with an open transaction."""
    session = get_db_session_from_context(connect)
    if session is not None and session.in_transaction():
        await session.commit()


async def rollback_db_session(connect: DBConnect) -> None:
    """Roll back now, if this context has a session with an open transaction."""
    session = get_db_session_from_context(connect)
    if session is not None and session.in_transaction():
        await session.rollback()


async def close_db_session(connect: DBConnect) -> None:
    """Close the session now and give its connection back; uncommitted work is rolled back.

    For work that goes on without the database. The next ``db_session`` makes a new session.
    """
    session = pop_db_session_from_context(connect)
    if session is not None:
        await close_session(session)


@asynccontextmanager
async def new_non_ctx_session(connect: DBConnect) -> AsyncGenerator[AsyncSession]:
    """A session outside of any context, closed on leaving. Committing is the caller's affair."""
    session = await connect.create_session()
    try:
        yield session
    finally:
        await close_session(session)


@asynccontextmanager
async def new_non_ctx_atomic_session(connect: DBConnect) -> AsyncGenerator[AsyncSession]:
    """A session outside of any context, in a transaction that is committed on leaving.

    An exception rolls it back.
    """
    async with new_non_ctx_session(connect) as session, session.begin():
        yield session
