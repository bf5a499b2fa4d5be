"""What programs written for context-async-sqlalchemy use beyond ``test_contract.py``."""

import asyncio
import importlib
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import String, func, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelSession

from pgstatus.client import AsyncPgStatusClient
from pgstatus.sqlalchemy import (
    ASGIHTTPDBSessionMiddleware,
    ContextAlreadyInitiatedError,
    DBConnect,
    PgStatusCluster,
    close_db_session,
    commit_db_session,
    db_session,
    init_db_session_ctx,
    is_context_initiated,
    new_non_ctx_atomic_session,
    reset_db_session_ctx,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.context import sessions_stream
from pgstatus.sqlalchemy.test_utils import (
    put_savepoint_session_in_ctx,
    rollback_session,
    rolled_back_test_context,
    set_test_context,
)
from tests.sqlalchemy.conftest import INSERT, Database, session_maker
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(200))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("asgi_utils.middleware", "ASGIHTTPDBSessionMiddleware"),
        ("auto_commit", "auto_commit_by_status_code"),
        ("connect", "DBConnect"),
        ("context", "sessions_stream"),
        ("fastapi_utils.middleware", "fastapi_http_db_session_middleware"),
        ("run_in_new_context", "run_in_new_ctx"),
        ("session", "db_session"),
        ("starlette_utils.http_middleware", "StarletteHTTPDBSessionMiddleware"),
        ("test_utils", "put_savepoint_session_in_ctx"),
    ],
)
def test_submodules(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"pgstatus.sqlalchemy.{module}"), name)


async def test_sessions_stream(database: Database) -> None:
    token = init_db_session_ctx()
    session = await db_session(database.connect)
    assert list(sessions_stream()) == [session]
    await reset_db_session_ctx(token)


async def test_a_new_context_is_a_copy(database: Database) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="")
    variable.set("outer")

    async def work() -> str:
        before = variable.get()
        variable.set("inner")
        return before

    assert await run_in_new_ctx(work) == "outer"
    assert variable.get() == "outer"


async def test_a_handler_may_request_the_session_it_prepares(database: Database) -> None:
    """Guarded against its own repetition, as it has to be with the original too."""
    inner: list[AsyncSession] = []

    async def handler(connect: DBConnect) -> None:
        if not inner:
            inner.append(None)  # type: ignore[arg-type]
            inner[0] = await asyncio.create_task(session_of(connect))
            await run_in_new_ctx(session_of, connect)

    async def session_of(connect: DBConnect) -> AsyncSession:
        return await db_session(connect)

    connect = DBConnect(database.engine, session_maker, database.cluster.primary.address, handler)
    async with asyncio.timeout(10), set_test_context(auto_close=True):
        session = await db_session(connect)
        assert session is inner[0]
        await session.execute(text("SELECT 1"))
    await connect.close()


async def test_default_expire_on_commit(database: Database) -> None:
    """A background task may read what the request has loaded; the original commits after it."""
    connect = DBConnect(database.engine, async_sessionmaker, database.cluster.primary.address)
    seen = []
    app = FastAPI()
    app.add_middleware(ASGIHTTPDBSessionMiddleware)

    @app.post("/write")
    async def write(background: BackgroundTasks) -> dict[str, str]:
        session = await db_session(connect)
        note = Note(body="row")
        session.add(note)
        await session.flush()
        background.add_task(lambda: seen.append(note.body))
        return {"body": note.body}

    @app.post("/early")
    async def early() -> dict[str, bool]:
        session = await db_session(connect)
        session.add(note := Note(body="early"))
        await commit_db_session(connect)
        return {"expired": "body" not in note.__dict__}

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as user:
        assert (await user.post("/write")).json() == {"body": "row"}
        assert (await user.post("/early")).json() == {"expired": True}
    assert seen == ["row"]
    assert database.bodies() == ["row", "early"]
    await connect.close()


@pytest.mark.parametrize("mistake", ["another engine", "one for all", "unbound", "binds"])
async def test_a_session_maker_for_another_host_is_rejected(
    database: Database, mistake: str
) -> None:
    elsewhere = database.engine(database.cluster.replicas[0].address)
    shared = async_sessionmaker(elsewhere)

    def creator(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        match mistake:
            case "another engine":
                return shared
            case "unbound":
                return async_sessionmaker()
            case "binds":
                return async_sessionmaker(engine, binds={Note: elsewhere})
            case _:
                shared.configure(bind=engine)
                return shared

    connect = DBConnect(database.engine, creator, database.cluster.primary.address)
    other = DBConnect(database.engine, creator, database.cluster.replicas[0].address)
    with pytest.raises(ValueError, match="session_maker_creator"):
        await connect.create_session()
        await other.create_session()
        await connect.create_session()
    await connect.close()
    await other.close()


async def test_an_engine_with_other_options_is_the_same_engine(database: Database) -> None:
    def creator(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        return async_sessionmaker(engine.execution_options(isolation_level="SERIALIZABLE"))

    connect = DBConnect(database.engine, creator, database.cluster.primary.address)
    async with new_non_ctx_atomic_session(connect) as session:
        level = await session.scalar(text("SHOW transaction_isolation"))
    assert level == "serializable"
    await connect.close()


class Following:
    def __init__(self, database: Database, url: str, maker: Any = session_maker) -> None:
        self.cluster = PgStatusCluster(
            AsyncPgStatusClient(url, deadline=10.0), lambda host, port: database.engine(host), maker
        )


async def test_inline_calls_return_the_same_connect(database: Database, daemon: Daemon) -> None:
    cluster = Following(database, daemon.url).cluster
    assert cluster.master() is cluster.master()
    assert cluster.replica(lag_ms=5) is cluster.replica(lag_ms=5)
    assert cluster.replica(lag_ms=5) is not cluster.replica(lag_ms=6)
    async with set_test_context(auto_close=True):
        assert await db_session(cluster.master()) is await db_session(cluster.master())
    await cluster.close()


async def test_the_savepoint_session_is_the_session_makers(database: Database) -> None:
    def creator(engine: AsyncEngine) -> async_sessionmaker[SQLModelSession]:
        return async_sessionmaker(engine, class_=SQLModelSession)

    connect = DBConnect(database.engine, creator, database.cluster.primary.address)  # type: ignore[arg-type]
    async with (
        rollback_session(connect) as mine,
        set_test_context(),
        put_savepoint_session_in_ctx(connect, mine),
    ):
        session = await db_session(connect)
        assert isinstance(session, SQLModelSession)
        assert (await session.exec(select(func.count()).select_from(Note))).scalar_one() == 0  # type: ignore[call-overload]
    await connect.close()


async def test_one_transaction_covers_everything(database: Database, daemon: Daemon) -> None:
    """run_in_new_ctx, close_db_session, sessions without context, replicas, requests."""
    cluster = Following(database, daemon.url).cluster
    master, replica = cluster.master(), cluster.replica()

    async def insert(body: str) -> None:
        await (await db_session(master)).execute(INSERT, {"body": body})

    async def count() -> int:
        return await (await db_session(replica)).scalar(select(func.count()).select_from(Note)) or 0

    app = FastAPI()
    app.add_middleware(ASGIHTTPDBSessionMiddleware)

    @app.post("/write")
    async def write(body: str) -> dict[str, int]:
        await insert(body)
        await commit_db_session(master)
        return {"rows": await count()}

    async with rolled_back_test_context(master, replica) as mine:
        await insert("context")
        await commit_db_session(master)
        await close_db_session(master)
        await insert("after close")
        await commit_db_session(master)
        await asyncio.gather(*(run_in_new_ctx(insert, f"beside {n}") for n in range(3)))
        async with new_non_ctx_atomic_session(master) as session:
            await session.execute(INSERT, {"body": "without context"})
        with pytest.raises(LookupError):
            await run_in_new_ctx(failing, insert)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as user:
            assert (await user.post("/write", params={"body": "request"})).json() == {"rows": 7}
        assert await count() == await run_in_new_ctx(count) == 7
        mine.add(Note(body="the test's"))
        await mine.commit()
        assert await count() == 8
        assert database.bodies() == []
    assert not is_context_initiated()
    assert database.bodies() == []
    await cluster.close()


async def failing(insert: Any) -> None:
    await insert("rolled back")
    raise LookupError


async def test_a_test_context_is_not_nested_in_itself(database: Database) -> None:
    async with set_test_context():
        with pytest.raises(ContextAlreadyInitiatedError):
            async with set_test_context():
                raise AssertionError("not reached")
    assert not is_context_initiated()


async def test_a_context_copied_into_a_task_is_not_the_tasks(database: Database) -> None:
    """A server that was started inside a context: each request has one of its own."""
    app = FastAPI()
    app.add_middleware(ASGIHTTPDBSessionMiddleware)

    @app.post("/write")
    async def write(body: str) -> None:
        await (await db_session(database.connect)).execute(INSERT, {"body": body})

    async def requests() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as user:
            for body in ("a", "b"):
                await user.post("/write", params={"body": body})
                assert body in database.bodies()

    async def main() -> None:
        await asyncio.create_task(requests())
        async with asyncio.TaskGroup() as group:
            group.create_task(test_context_of_its_own())

    async def test_context_of_its_own() -> None:
        async with set_test_context(auto_close=True):
            await (await db_session(database.connect)).execute(INSERT, {"body": "c"})
        assert "c" in database.bodies()

    await run_in_new_ctx(main)
    assert database.bodies() == ["a", "b", "c"]
