"""hasql with asyncpg, for comparison: it checks the hosts itself and knows no bookmarks."""

from datetime import timedelta
from typing import Any

from hasql.balancer_policy import RoundRobinBalancerPolicy
from hasql.driver.asyncpg import PoolManager
from hasql.staleness import StalenessPolicy, TimeStalenessChecker

from bench.stacks.stack import READ, WRITE, Place, Read


class Hasql:
    def __init__(self, pool: PoolManager) -> None:
        self._pool = pool

    async def write(self, value: int) -> None:
        async with self._pool.acquire_master() as connection:
            await connection.execute(WRITE.format("$1"), value)

    async def read(self, value: int, bookmark: Any) -> Read:
        async with self._pool.acquire_replica() as connection:
            row = await connection.fetchrow(READ.format("$1"), value)
            return Read(bool(row[0]), row[1])

    async def close(self) -> None:
        await self._pool.close()  # type: ignore[no-untyped-call]


async def open_stack(place: Place) -> Hasql:
    hosts = ",".join(f"{host}:{place.port}" for host in place.hosts)
    pool = PoolManager(  # type: ignore[no-untyped-call]
        f"postgresql://{place.user}:{place.password}@{hosts}/{place.dbname}",
        fallback_master=True,
        balancer_policy=RoundRobinBalancerPolicy,
        staleness=StalenessPolicy(
            TimeStalenessChecker(max_lag=timedelta(milliseconds=place.lag_ms))
        ),
        pool_factory_kwargs={"min_size": 1, "max_size": place.users, "timeout": 2},
    )
    await pool.ready()
    return Hasql(pool)
