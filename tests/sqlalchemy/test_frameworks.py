"""SQLModel, Litestar and Alembic as docs/sqlalchemy.md describes their use."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from litestar import Litestar, Request, get, post
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from sqlalchemy import Column, Integer, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from pgstatus.client import AsyncPgStatusClient
from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy import (
    ASGIHTTPDBSessionMiddleware,
    PgStatusCluster,
    ReadYourWritesMiddleware,
    commit_db_session,
    db_session,
    new_non_ctx_session,
)
from tests.sqlalchemy.conftest import INSERT, session_maker, url_of
from tests.sqlalchemy.test_read_your_writes import COUNT, Held
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio


Asked = Request[Any, Any, Any]


class Note(SQLModel, table=True):
    __tablename__ = "note"
    id: int | None = Field(default=None, primary_key=True)
    body: str


@pytest.fixture
async def following(
    cluster: Cluster, daemon: Daemon, driver: str
) -> AsyncIterator[PgStatusCluster]:
    cluster.primary.sql("TRUNCATE note")
    following = PgStatusCluster(
        AsyncPgStatusClient(daemon.url, deadline=10.0),
        lambda host, port: create_async_engine(url_of(driver, host, port)),
        session_maker,
    )
    yield following
    await following.close()


async def test_litestar(cluster: Cluster, following: PgStatusCluster) -> None:
    @post("/write")
    async def write(request: Asked) -> None:
        session = await db_session(following.master())
        await session.execute(INSERT, {"body": request.query_params["note"]})
        if "early" in request.query_params:
            await commit_db_session(following.master())
            raise HTTPException(status_code=409)

    @get("/read")
    async def read(request: Asked) -> int:
        session = await db_session(following.replica())
        count = await session.execute(COUNT, {"body": request.query_params["note"]})
        return int(count.scalar_one())

    app = Litestar(
        [write, read],
        middleware=[
            DefineMiddleware(ReadYourWritesMiddleware, secret="the test's"),  # type: ignore[arg-type]
            DefineMiddleware(ASGIHTTPDBSessionMiddleware),  # type: ignore[arg-type]
        ],
    )
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="https://service") as user:
        with Held(cluster, cluster.replicas):
            for params, status in (({"note": "a"}, 201), ({"note": "b", "early": "1"}, 409)):
                answer = await user.post("/write", params=params)
                assert answer.status_code == status
                assert (await user.get("/read", params=params)).text == "1"
                user.cookies.clear()


async def test_sqlmodel(cluster: Cluster, daemon: Daemon, driver: str) -> None:
    cluster.primary.sql("TRUNCATE note")

    def maker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        return async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    following = PgStatusCluster(
        AsyncPgStatusClient(daemon.url, deadline=10.0),
        lambda host, port: create_async_engine(url_of(driver, host, port)),
        maker,  # type: ignore[arg-type]
    )
    async with new_non_ctx_session(following.master()) as session:
        assert isinstance(session, AsyncSession)
        session.add(Note(body="row"))
        await session.commit()
        assert (await session.exec(select(Note.body))).all() == ["row"]
    await following.close()


async def test_alembic(cluster: Cluster, following: PgStatusCluster) -> None:
    """What ``env.py`` does: run the migrations on a connection to the current master."""

    def migrate(connection: object) -> None:
        context = MigrationContext.configure(connection)  # type: ignore[arg-type]
        with context.begin_transaction():
            Operations(context).create_table("migrated", Column("id", Integer, primary_key=True))

    async with new_non_ctx_session(following.master()) as session:
        connection = await session.connection()
        await connection.run_sync(migrate)
        await session.commit()
    async with new_non_ctx_session(following.master()) as session:
        connection = await session.connection()
        assert await connection.run_sync(lambda each: inspect(each).has_table("migrated"))
        await session.execute(text("DROP TABLE migrated"))
        await session.commit()
