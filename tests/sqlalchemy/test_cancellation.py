"""A request that is cancelled at any of its awaits leaves no connection and no transaction behind.

The ``database`` fixture checks the pools and the server after each test.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from pgstatus.sqlalchemy import (
    atomic_db_session,
    cleanup,
    close_db_session,
    commit_all_sessions,
    db_session,
    init_db_session_ctx,
    is_context_initiated,
    new_non_ctx_atomic_session,
    reset_db_session_ctx,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.asgi_utils import ASGIHTTPDBSessionMiddleware, Receive, Scope, Send
from tests.sqlalchemy.conftest import INSERT, Database, until

pytestmark = pytest.mark.anyio


class Cancellation:
    """Cancels a task at the ``step``-th await of it and of the tasks that it creates."""

    def __init__(self, step: int) -> None:
        self.steps = 0
        self._step = step
        self._task: asyncio.Future[Any] | None = None

    @types.coroutine
    def _counted(self, work: Awaitable[Any]) -> Generator[Any, Any, Any]:
        inner = work.__await__()
        thrown: BaseException | None = None
        try:
            while True:
                future = inner.send(None) if thrown is None else inner.throw(thrown)
                thrown = None
                self.steps += 1
                if self.steps == self._step:
                    assert self._task is not None
                    self._task.cancel()
                try:
                    yield future
                except BaseException as error:
                    thrown = error
        except StopIteration as stop:
            return stop.value

    async def _drive(self, work: Awaitable[Any]) -> Any:
        return await self._counted(work)

    def _create(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(self._drive(work), loop=loop, **options)
        task.add_done_callback(lambda _: work.close())  # if cancelled before it was started
        return task

    async def of(self, work: Awaitable[object]) -> bool:
        """Whether ``work`` had so many awaits; it has ended either way."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._create)
        task: asyncio.Future[object] = asyncio.ensure_future(work)
        self._task = task
        try:
            await asyncio.wait([task])
        finally:
            loop.set_task_factory(None)
        if not task.cancelled():
            task.result()
        return self.steps >= self._step


async def two_inserts(connect_session: Callable[[], Awaitable[AsyncSession]]) -> None:
    session = await connect_session()
    for body in ("one", "two"):
        await session.execute(INSERT, {"body": body})


async def request(database: Database) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await two_inserts(lambda: db_session(database.connect))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        raise AssertionError("the application reads no body")

    async def send(_: object) -> None:
        await asyncio.sleep(0)

    await ASGIHTTPDBSessionMiddleware(app)({"type": "http"}, receive, send)


async def new_context(database: Database) -> None:
    await run_in_new_ctx(two_inserts, lambda: db_session(database.connect))


async def outside(database: Database) -> None:
    async with new_non_ctx_atomic_session(database.connect) as session:

        async def same() -> AsyncSession:
            return session

        await two_inserts(same)


async def atomic(database: Database) -> None:
    token = init_db_session_ctx()
    try:
        async with atomic_db_session(database.connect):
            await two_inserts(lambda: db_session(database.connect))
        await close_db_session(database.connect)
    finally:
        await reset_db_session_ctx(token)


@pytest.mark.parametrize(
    ("work", "warm"),
    [(request, False), (request, True), (new_context, True), (outside, True), (atomic, True)],
    ids=["connecting request", "request", "new context", "outside", "atomic"],
)
async def test_cancelled_at_every_await(
    database: Database, work: Callable[[Database], Awaitable[None]], warm: bool
) -> None:
    # asyncpg's connect, cancelled, leaves a future behind whose exception is never retrieved.
    asyncio.get_running_loop().set_exception_handler(None if warm else lambda *_: None)
    step = 0
    reached = True
    while reached:
        step += 1
        if warm:
            await work(database)
        else:
            await database.connect.close()
        database.cluster.primary.sql("TRUNCATE note")
        reached = await Cancellation(step).of(work(database))
        await until(lambda: database.in_use() == 0)
        assert not is_context_initiated()
        assert database.in_use() == 0, f"a connection leaked when cancelled at await {step}"
        assert database.bodies() in ([], ["one", "two"]), f"half a transaction at await {step}"
    assert database.bodies() == ["one", "two"]
    assert step > 4


async def test_cancelled_in_the_middle_of_a_query(database: Database) -> None:
    async def slow() -> None:
        session = await db_session(database.connect)
        await session.execute(INSERT, {"body": "row"})
        await session.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await run_in_new_ctx(slow)
    assert database.in_use() == 0
    assert database.bodies() == []
    # The pool is as good as before.
    await run_in_new_ctx(two_inserts, lambda: db_session(database.connect))


async def test_cancelled_repeatedly_during_the_cleanup(database: Database) -> None:
    """A cancel scope repeats its cancellation until the task has ended."""
    began = anyio.Event()

    async def slow() -> None:
        session = await db_session(database.connect)
        await session.execute(INSERT, {"body": "row"})
        began.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(run_in_new_ctx, slow)
        await began.wait()
        group.cancel_scope.cancel()
    assert database.in_use() == 0
    assert database.bodies() == []


async def test_one_of_many_is_cancelled(database: Database) -> None:
    """Tasks that wait for the same new session get it although its creator is cancelled."""
    token = init_db_session_ctx()
    gate = asyncio.Event()
    made = []

    async def handler(_: object) -> None:
        await gate.wait()
        made.append(1)

    database.connect._before_create_session_handler = handler
    tasks = [asyncio.create_task(db_session(database.connect)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    gate.set()
    sessions = await asyncio.gather(*tasks[1:])
    assert sessions[0] is sessions[1]
    assert made == [1]
    await commit_all_sessions()
    await reset_db_session_ctx(token)


async def test_a_frozen_server_does_not_hold_the_cleanup(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "CLOSE_SECONDS", 0.3)
    token = init_db_session_ctx()
    session = await db_session(database.connect)
    await session.execute(INSERT, {"body": "row"})
    database.cluster.primary.freeze()
    try:
        async with asyncio.timeout(5):
            await reset_db_session_ctx(token)
        assert not is_context_initiated()
    finally:
        database.cluster.primary.thaw()
    # psycopg waits for the response to its cancel request first.
    await until(lambda: database.in_use() == 0)
