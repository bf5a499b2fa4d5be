"""What programs written for context-async-sqlalchemy rely on.

Only names that both libraries have are used, so this file passes against the original too if its
import lines are changed. Tests of intended differences are in other files.
"""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy import (
    ContextAlreadyInitiatedError,
    ContextNotInitiatedError,
    DBConnect,
    atomic_db_session,
    auto_commit_by_status_code,
    close_all_sessions,
    close_db_session,
    commit_all_sessions,
    commit_db_session,
    db_session,
    get_db_session_from_context,
    init_db_session_ctx,
    is_context_initiated,
    new_non_ctx_atomic_session,
    new_non_ctx_session,
    pop_db_session_from_context,
    put_db_session_to_context,
    reset_db_session_ctx,
    rollback_all_sessions,
    rollback_db_session,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.test_utils import (
    put_savepoint_session_in_ctx,
    rollback_session,
    set_test_context,
)
from tests.sqlalchemy.conftest import INSERT, Database, session_maker

pytestmark = pytest.mark.anyio


async def insert(connect: DBConnect, body: str = "row") -> None:
    session = await db_session(connect)
    await session.execute(INSERT, {"body": body})


async def test_a_session_is_lazy_and_one_per_context(database: Database) -> None:
    connect = database.connect
    token = init_db_session_ctx()
    session = await db_session(connect)
    assert not session.in_transaction()
    assert await db_session(connect) is session
    assert get_db_session_from_context(connect) is session

    async def child() -> AsyncSession:
        return await db_session(connect)

    assert await asyncio.create_task(child()) is session
    await insert(connect)
    await reset_db_session_ctx(token)
    assert database.bodies() == []
    assert not is_context_initiated()


async def test_a_child_task_may_make_the_session(database: Database) -> None:
    token = init_db_session_ctx()
    await asyncio.create_task(insert(database.connect))
    await commit_all_sessions()
    await reset_db_session_ctx(token)
    assert database.bodies() == ["row"]


async def test_without_a_context(database: Database) -> None:
    for function in (db_session, commit_db_session, rollback_db_session):
        with pytest.raises(ContextNotInitiatedError):
            await function(database.connect)
    for everything in (commit_all_sessions, rollback_all_sessions, close_all_sessions):
        with pytest.raises(ContextNotInitiatedError):
            await everything()
    with pytest.raises(ContextNotInitiatedError):
        get_db_session_from_context(database.connect)
    assert pop_db_session_from_context(database.connect) is None
    await close_db_session(database.connect)


async def test_contexts_nest_only_by_force(database: Database) -> None:
    outer = init_db_session_ctx()
    with pytest.raises(ContextAlreadyInitiatedError):
        init_db_session_ctx()
    session = await db_session(database.connect)
    inner = init_db_session_ctx(force=True)
    assert get_db_session_from_context(database.connect) is None
    await reset_db_session_ctx(inner)
    assert get_db_session_from_context(database.connect) is session
    await reset_db_session_ctx(outer)


async def test_commit_rollback_and_close_by_hand(database: Database) -> None:
    connect = database.connect
    token = init_db_session_ctx()
    await insert(connect, "committed")
    await commit_db_session(connect)
    await insert(connect, "rolled back")
    await rollback_db_session(connect)
    await insert(connect, "closed")
    session = await db_session(connect)
    await close_db_session(connect)
    assert get_db_session_from_context(connect) is None
    assert await db_session(connect) is not session
    await reset_db_session_ctx(token)
    assert database.bodies() == ["committed"]


async def test_a_session_that_is_removed_belongs_to_the_caller(database: Database) -> None:
    token = init_db_session_ctx()
    await insert(database.connect)
    session = pop_db_session_from_context(database.connect)
    assert session is not None
    await reset_db_session_ctx(token)
    assert session.in_transaction()
    token = init_db_session_ctx()
    put_db_session_to_context(database.connect, session)
    assert await db_session(database.connect) is session
    await reset_db_session_ctx(token)
    assert not session.in_transaction()


@pytest.mark.parametrize(
    ("status", "rows"), [(200, ["row"]), (204, ["row"]), (399, ["row"]), (400, []), (500, [])]
)
async def test_the_status_code_decides(database: Database, status: int, rows: list[str]) -> None:
    token = init_db_session_ctx()
    await insert(database.connect)
    await auto_commit_by_status_code(status)
    await reset_db_session_ctx(token)
    assert database.bodies() == rows


async def test_before_commit_sees_only_sessions_that_commit(database: Database) -> None:
    idle, seen = database.new_connect(), []

    async def before_commit(session: AsyncSession) -> None:
        seen.append((session, session.in_transaction()))
        await session.execute(INSERT, {"body": "from the callback"})

    token = init_db_session_ctx()
    await db_session(idle)
    await insert(database.connect)
    await commit_all_sessions(before_commit)
    assert seen == [(await db_session(database.connect), True)]
    await auto_commit_by_status_code(500, before_commit)
    assert len(seen) == 1
    await reset_db_session_ctx(token)
    assert database.bodies() == ["row", "from the callback"]


async def test_a_callback_that_raises_prevents_the_commit(database: Database) -> None:
    async def before_commit(session: AsyncSession) -> None:
        raise LookupError

    token = init_db_session_ctx()
    await insert(database.connect)
    with pytest.raises(LookupError):
        await commit_all_sessions(before_commit)
    await reset_db_session_ctx(token)
    assert database.bodies() == []


@pytest.mark.parametrize(
    ("mode", "rows"),
    [
        ("commit", ["before", "inside"]),
        ("rollback", ["inside"]),
        ("append", ["before", "inside"]),
    ],
)
async def test_atomic_and_the_transaction_before(
    database: Database, mode: str, rows: list[str]
) -> None:
    token = init_db_session_ctx()
    await insert(database.connect, "before")
    async with atomic_db_session(database.connect, mode) as session:  # type: ignore[arg-type]
        assert session is await db_session(database.connect)
        await insert(database.connect, "inside")
    assert database.bodies() == rows
    assert not session.in_transaction()
    await reset_db_session_ctx(token)


@pytest.mark.parametrize(
    ("mode", "rows"), [("commit", ["before"]), ("rollback", []), ("append", [])]
)
async def test_atomic_with_an_exception(database: Database, mode: str, rows: list[str]) -> None:
    token = init_db_session_ctx()
    await insert(database.connect, "before")
    with pytest.raises(LookupError):
        async with atomic_db_session(database.connect, mode):  # type: ignore[arg-type]
            await insert(database.connect, "inside")
            raise LookupError
    await reset_db_session_ctx(token)
    assert database.bodies() == rows


async def test_atomic_may_insist_on_a_new_transaction(database: Database) -> None:
    token = init_db_session_ctx()
    async with atomic_db_session(database.connect, "raise"):
        await insert(database.connect, "first")
    await insert(database.connect, "second")
    with pytest.raises(InvalidRequestError):
        async with atomic_db_session(database.connect, "raise"):
            raise AssertionError("not reached")
    await reset_db_session_ctx(token)
    assert database.bodies() == ["first"]


async def test_sessions_outside_of_the_context(database: Database) -> None:
    async with new_non_ctx_session(database.connect) as session:
        await session.execute(INSERT, {"body": "not committed"})
    async with new_non_ctx_session(database.connect) as session:
        await session.execute(INSERT, {"body": "by hand"})
        await session.commit()
    async with new_non_ctx_atomic_session(database.connect) as session:
        assert session.in_transaction()
        await session.execute(INSERT, {"body": "atomic"})
    with pytest.raises(LookupError):
        async with new_non_ctx_atomic_session(database.connect) as session:
            await session.execute(INSERT, {"body": "failed"})
            raise LookupError
    assert database.bodies() == ["by hand", "atomic"]


async def test_concurrent_queries(database: Database) -> None:
    connect = database.connect

    async def by_hand(body: str) -> None:
        await insert(connect, body)
        await commit_db_session(connect)
        await close_db_session(connect)

    async def outside(body: str) -> None:
        async with new_non_ctx_atomic_session(connect) as session:
            await session.execute(INSERT, {"body": body})

    token = init_db_session_ctx()
    session = await db_session(connect)
    await asyncio.gather(
        insert(connect, "a"),
        run_in_new_ctx(insert, connect, "b"),
        run_in_new_ctx(by_hand, body="c"),
        outside("d"),
    )
    assert await db_session(connect) is session
    await commit_all_sessions()
    await reset_db_session_ctx(token)
    assert sorted(database.bodies()) == ["a", "b", "c", "d"]


async def test_a_new_context_rolls_back_and_passes_the_exception_on(database: Database) -> None:
    async def fails() -> None:
        await insert(database.connect)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await run_in_new_ctx(fails)
    assert not is_context_initiated()
    assert database.bodies() == []


async def test_several_databases(database: Database) -> None:
    other = database.new_connect()
    token = init_db_session_ctx()
    await insert(database.connect, "one")
    await insert(other, "two")
    assert await db_session(other) is not await db_session(database.connect)
    await rollback_db_session(database.connect)
    await commit_all_sessions()
    await reset_db_session_ctx(token)
    await other.close()
    assert database.bodies() == ["two"]


async def test_a_connect_without_a_host(database: Database) -> None:
    connect = DBConnect(database.engine, session_maker)
    assert connect.host is None
    with pytest.raises(ValueError, match="host is not set"):
        await connect.create_session()
    for change in (connect.connect, connect.change_host):
        with pytest.raises(ValueError, match="host must not be empty"):
            await change("")
    await connect.close()
    assert database.engines == []


async def test_the_handler_names_the_host(database: Database) -> None:
    calls = []

    async def handler(connect: DBConnect) -> None:
        calls.append(connect.host)
        await connect.change_host(database.cluster.primary.address)

    connect = DBConnect(database.engine, session_maker, before_create_session_handler=handler)
    session = await connect.create_session()
    assert (await session.execute(text("SELECT 1"))).scalar() == 1
    await session.close()
    await connect.create_session()
    assert await connect.session_maker() is await connect.session_maker()
    assert calls == [None, *[database.cluster.primary.address] * 3]
    assert len(database.engines) == 1
    await connect.close()


async def test_changing_the_host(database: Database) -> None:
    replica = database.cluster.replicas[0].address
    connect = database.connect
    in_flight = await connect.create_session()
    await in_flight.execute(text("SELECT 1"))
    await connect.change_host(connect.host or "")
    assert len(database.engines) == 1
    await connect.change_host(replica)
    assert connect.host == replica
    session = await connect.create_session()
    assert (await session.execute(text("SELECT pg_is_in_recovery()"))).scalar() is True
    await session.close()
    # The old host's session is not disturbed.
    assert (await in_flight.execute(text("SELECT pg_is_in_recovery()"))).scalar() is False
    await in_flight.close()
    await connect.close()
    assert connect.host == replica


async def test_a_closed_connect_opens_again(database: Database) -> None:
    async with new_non_ctx_session(database.connect) as session:
        await session.execute(text("SELECT 1"))
    await database.connect.close()
    async with new_non_ctx_session(database.connect) as session:
        await session.execute(text("SELECT 1"))
    assert len(database.engines) == 2


async def test_helpers_for_tests_share_one_transaction(database: Database) -> None:
    connect = database.connect
    async with (
        rollback_session(connect) as mine,
        set_test_context(),
        put_savepoint_session_in_ctx(connect, mine),
    ):
        await insert(connect, "kept for the test")
        await commit_db_session(connect)
        await insert(connect, "rolled back by the application")
        await rollback_db_session(connect)
        assert (await mine.execute(text("SELECT body FROM note"))).scalars().all() == [
            "kept for the test"
        ]
        with pytest.raises(ContextAlreadyInitiatedError):
            init_db_session_ctx()
    assert not is_context_initiated()
    assert database.bodies() == []


async def test_a_test_context_may_close_by_itself(database: Database) -> None:
    async with set_test_context(auto_close=True):
        await insert(database.connect, "committed")
    with pytest.raises(LookupError):
        async with set_test_context(auto_close=True):
            await insert(database.connect, "rolled back")
            raise LookupError
    async with set_test_context():
        await insert(database.connect, "left to the test")
        session = await db_session(database.connect)
    assert session.in_transaction()
    await session.close()
    assert database.bodies() == ["committed"]
