"""For tests that share one transaction with the application and roll it back at their end.

A middleware leaves a context alone that is open already; so a test opens one around the request
and puts a session into it whose commits are savepoints of the test's own transaction.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.cleanup import close_session
from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.context import (
    init_db_session_ctx,
    put_db_session_to_context,
    reset_db_session_ctx,
)


@asynccontextmanager
async def rollback_session(connection: DBConnect) -> AsyncGenerator[AsyncSession]:
    """A session for the test itself, rolled back at its end."""
    session = await connection.create_session()
    try:
        yield session
    finally:
        await close_session(session)


@asynccontextmanager
async def set_test_context(auto_close: bool = False) -> AsyncGenerator[None]:
    """Open a context as the middleware does.

    With ``auto_close`` the sessions made in it are committed, or rolled back after an exception,
    and closed. Without, they are the test's to close.
    """
    token = init_db_session_ctx()
    try:
        yield
        if auto_close:
            await commit_all_sessions()
    except Exception:
        if auto_close:
            await rollback_all_sessions()
        raise
    finally:
        await reset_db_session_ctx(token, with_close=auto_close)


@asynccontextmanager
async def put_savepoint_session_in_ctx(
    connection: DBConnect, session: AsyncSession
) -> AsyncGenerator[None]:
    """Give the context a session on the connection of ``session``, inside its transaction.

    Its commits release savepoints, so the test sees them and its own rollback undoes them. To be
    used inside ``set_test_context``.
    """
    inner = AsyncSession(
        bind=await session.connection(),
        join_transaction_mode="create_savepoint",
        expire_on_commit=session.sync_session.expire_on_commit,
    )
    try:
        put_db_session_to_context(connection, inner)
        yield
    finally:
        await close_session(inner)
