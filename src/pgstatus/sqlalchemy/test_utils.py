"""For tests that share one transaction with the application and roll it back at their end.

A middleware uses the context that a test has opened around the request. The test puts sessions into
it whose commits are savepoints of the test's own transaction.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.cleanup import close_session
from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.context import (
    current_sessions,
    init_shared_ctx,
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
    maker = await connection.session_maker()
    bind = await session.connection()
    sessions = current_sessions()
    created: list[AsyncSession] = []

    async def create() -> AsyncSession:
        inner = maker(bind=bind, join_transaction_mode="create_savepoint")
        created.append(inner)
        return inner

    sessions.factories[connection.context_key] = create
    try:
        put_db_session_to_context(connection, await create())
        yield
    finally:
        sessions.factories.pop(connection.context_key, None)
        async with AsyncExitStack() as stack:
            for each in created:
                stack.push_async_callback(close_session, each)


@asynccontextmanager
async def rolled_back_test_context(
    connection: DBConnect, *others: DBConnect
) -> AsyncGenerator[AsyncSession]:
    """One transaction of ``connection`` for the test and the application, rolled back at the end.

    ``others``, for example replicas, use the same transaction and so see what it has written. The
    test uses the session that it is given; its commits are savepoints too.
    """
    async with AsyncExitStack() as stack:
        outer = await stack.enter_async_context(rollback_session(connection))
        await stack.enter_async_context(set_test_context())
        for connect in (connection, *others):
            await stack.enter_async_context(put_savepoint_session_in_ctx(connect, outer))
        mine = await current_sessions().create(connection)
        stack.push_async_callback(close_session, mine)
        yield mine
