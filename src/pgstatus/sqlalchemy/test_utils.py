"""For tests that share one transaction with the application and roll it back at their end.

A middleware uses the context that a test has opened around the request. The test puts sessions into
it whose commits are savepoints of the test's own transaction.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from pgstatus.sqlalchemy.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.cleanup import close_session, close_sessions
from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.context import (
    current_sessions,
    init_shared_ctx,
    put_db_session_to_context,
    reset_db_session_ctx,
)
from pgstatus.sqlalchemy.sessions import SessionFactory


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
    """Open a context as the middleware does; requests inside it use it, in whatever task they run.

    With ``auto_close`` the sessions created in it are committed, or rolled back after an exception,
    and closed. Without, the test closes them.
    """
    token = init_shared_ctx()
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
    """Use sessions on the connection of ``session``, inside its transaction, for ``connection``.

    They are created by the session maker of ``connection``; their commits release savepoints, so
    the test sees them and its rollback undoes them. This includes the sessions of ``db_session``
    after ``close_db_session``, of ``run_in_new_ctx`` (one after another, because there is one
    connection) and of ``new_non_ctx_session``. To be used inside ``set_test_context``.
    """
    async with _savepoint_sessions(connection, await session.connection()) as create:
        put_db_session_to_context(connection, await create())
        yield


@asynccontextmanager
async def rolled_back_test_context(
    connection: DBConnect, *others: DBConnect
) -> AsyncGenerator[AsyncSession]:
    """One transaction of ``connection`` for the test and the application, rolled back at the end.

    ``others``, for example replicas, use the session of ``connection``, so they see what it has
    written. It opens a test context; the sessions in it are those of
    ``put_savepoint_session_in_ctx``. The test uses the session that it is given, whose commit only
    flushes.
    """
    maker = await connection.session_maker()
    async with AsyncExitStack() as stack:
        bind = await stack.enter_async_context(maker.kw["bind"].connect())
        await bind.begin()
        stack.push_async_callback(_roll_back, bind)
        mine = maker(bind=bind, join_transaction_mode="rollback_only")
        stack.push_async_callback(close_session, mine)
        await stack.enter_async_context(set_test_context())
        create = await stack.enter_async_context(_savepoint_sessions(connection, bind))
        put_db_session_to_context(connection, await create())
        current_sessions().aliases = {other.context_key: connection for other in others}
        yield mine


@asynccontextmanager
async def _savepoint_sessions(
    connection: DBConnect, bind: AsyncConnection
) -> AsyncGenerator[SessionFactory]:
    """Let this context create the sessions of ``connection`` inside the transaction of ``bind``."""
    maker = await connection.session_maker()
    created: list[AsyncSession] = []

    async def create() -> AsyncSession:
        session = maker(bind=bind, join_transaction_mode="create_savepoint")
        created.append(session)
        return session

    sessions = current_sessions()
    before = sessions.factories
    sessions.factories = {**before, connection.context_key: create}
    try:
        yield create
    finally:
        sessions.factories = before
        await close_sessions(reversed(created))


async def _roll_back(connection: AsyncConnection) -> None:
    if connection.in_transaction():
        await connection.rollback()
