"""Callers of an exhausted pool get a connection in the order in which they have come."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pgstatus.client import AsyncPgStatusClient, PgStatusClient
from pgstatus.psycopg import Pools
from tests.pools.application import CONNINFO
from tests.pools.test_cancellation import asyncpg_pools, psycopg_pools
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

VALID = 1.0
# The first caller waits for longer than the answer of pg-status is used, the others do not.
STEP = VALID * 0.4


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is used for a shorter time than usual, so that the test takes less."""
    for module in ("asyncpg.pools", "psycopg.pools", "psycopg.pools_async"):
        monkeypatch.setattr(f"pgstatus.{module}.VALID", VALID)


def test_tasks(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def order_of(make: Callable[[AsyncPgStatusClient], tuple[Any, Any]]) -> list[int]:
        served = []

        async def wait(number: int, take: Callable[[], Any]) -> None:
            async with take():
                served.append(number)

        async with AsyncPgStatusClient(daemon.url, deadline=10.0) as client:
            pools, take = make(client)
            async with pools, asyncio.TaskGroup() as tasks:
                async with take():
                    for number in range(3):
                        tasks.create_task(wait(number, take))
                        await asyncio.sleep(STEP)
                await wait(3, take)  # at once after the connection was returned
        return served

    async def test() -> None:
        orders = await asyncio.gather(order_of(psycopg_pools), order_of(asyncpg_pools))
        assert list(orders) == [[0, 1, 2, 3]] * 2

    monkeypatch.setattr("tests.pools.test_cancellation.SIZE", 1)
    asyncio.run(test())


def test_threads(daemon: Daemon) -> None:
    served = []
    with (
        PgStatusClient(daemon.url, deadline=10.0) as client,
        Pools(client, CONNINFO, max_size=1) as pools,
    ):
        master = pools.master()

        def wait(number: int) -> None:
            with master.connection():
                served.append(number)

        def is_waiting(count: int) -> bool:
            return sum(each["requests_waiting"] for each in pools.get_stats().values()) == count

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
        with master.connection():
            for number, thread in enumerate(threads):
                thread.start()
                wait_until("it waits", partial(is_waiting, number + 1))
                threading.Event().wait(STEP)
        for thread in threads:
            thread.join()
    assert served == [0, 1, 2]
