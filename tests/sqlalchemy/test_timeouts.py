"""The timeouts that docs/sqlalchemy.md recommends end a wait for a frozen host.

A frozen host keeps its connections open and its kernel acknowledges every packet, so TCP timeouts
do not help.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy import DBConnect, cleanup, db_session, run_in_new_ctx
from tests.sqlalchemy.conftest import session_maker, url_of

pytestmark = pytest.mark.anyio

OPTIONS: dict[str, dict[str, Any]] = {
    "asyncpg": {"timeout": 2, "command_timeout": 2},
    "psycopg": {"connect_timeout": 2},
}
# psycopg has no timeout for a query, so the application sets one.
QUERY_SECONDS = 2.0
# Otherwise it would not end. psycopg sends a cancel request and waits for its effect for 5 s each
# before it closes the connection; the rollback of asyncpg's is abandoned after CLOSE_SECONDS.
LIMIT_SECONDS = 60.0


@pytest.fixture
async def connect(
    cluster: Cluster, driver: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DBConnect]:
    monkeypatch.setattr(cleanup, "CLOSE_SECONDS", 2.0)

    def engine(host: str) -> AsyncEngine:
        return create_async_engine(
            url_of(driver, host, cluster.primary.port), connect_args=OPTIONS[driver], pool_timeout=2
        )

    connect = DBConnect(engine, session_maker, cluster.primary.address)
    yield connect
    await connect.close()


@pytest.fixture
def frozen(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.primary.thaw()


@pytest.mark.parametrize("warm", [True, False], ids=["query", "connecting"])
async def test_a_wait_for_a_frozen_host_ends(
    cluster: Cluster, connect: DBConnect, driver: str, warm: bool, frozen: None
) -> None:
    async def query() -> None:
        session = await db_session(connect)
        if warm:
            await session.execute(text("SELECT 1"))
        await asyncio.to_thread(cluster.primary.freeze)
        async with asyncio.timeout(QUERY_SECONDS):
            await session.execute(text("SELECT 1"))

    began = time.monotonic()
    with pytest.raises(Exception):  # noqa: B017, PT011  # TimeoutError, or the driver's own
        await run_in_new_ctx(query)
    assert time.monotonic() - began < LIMIT_SECONDS
