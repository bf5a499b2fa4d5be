"""A task that is cancelled while it waits for a connection does not take one away."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import pgstatus.asyncpg
import pgstatus.psycopg
from pgstatus.client import AsyncPgStatusClient
from pgstatus.demo.cluster import PASSWORD
from tests.pools.application import CONNINFO
from tests.support.daemon import Daemon

SIZE = 2


def psycopg_pools(client: AsyncPgStatusClient) -> tuple[Any, Callable[[], Any]]:
    pools = pgstatus.psycopg.AsyncPools(client, CONNINFO, max_size=SIZE)
    return pools, pools.master().connection


def asyncpg_pools(client: AsyncPgStatusClient) -> tuple[Any, Callable[[], Any]]:
    pools = pgstatus.asyncpg.Pools(
        client, user="postgres", password=PASSWORD, database="postgres", max_size=SIZE
    )
    return pools, pools.master().acquire


@pytest.mark.parametrize("make", [psycopg_pools, asyncpg_pools])
def test_cancelled_at_each_step(
    make: Callable[[AsyncPgStatusClient], tuple[Any, Callable[[], Any]]], daemon: Daemon
) -> None:
    """Also while the pool is exhausted."""

    async def use(take: Callable[[], Any]) -> None:
        async with take() as connection:
            await connection.execute("SELECT 1")

    async def test() -> None:
        async with AsyncPgStatusClient(daemon.url, deadline=10.0) as client:
            pools, take = make(client)
            async with pools, asyncio.timeout(60):
                for steps in range(0, 120, 3):
                    tasks = [asyncio.create_task(use(take)) for _ in range(SIZE + 2)]
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)
                async with AsyncExitStack() as stack:
                    for _ in range(SIZE):
                        await stack.enter_async_context(take())

    asyncio.run(test())
