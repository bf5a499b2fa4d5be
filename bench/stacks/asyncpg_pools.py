"""pgstatus.asyncpg."""

from typing import Any

from bench.stacks.stack import READ, WRITE, Place, Read
from pgstatus.asyncpg import Pools
from pgstatus.client import AsyncPgStatusClient


class AsyncpgPools:
    def __init__(self, place: Place) -> None:
        self._client = AsyncPgStatusClient(place.url)
        self._pools = Pools(
            self._client,
            user=place.user,
            password=place.password,
            database=place.dbname,
            max_size=place.users,
            timeout=2,
        )
        self._master = self._pools.master()
        self._replica = self._pools.replica(lag_ms=place.lag_ms)

    async def open(self) -> None:
        await self._pools.open()

    async def write(self, value: int) -> Any:
        async with self._master.acquire() as connection:
            await connection.execute(WRITE.format("$1"), value)
            return await connection.bookmark()

    async def read(self, value: int, bookmark: Any) -> Read:
        row = await self._replica.fetchrow(READ.format("$1"), value, after=bookmark)
        return Read(bool(row[0]), row[1])

    async def close(self) -> None:
        await self._pools.close()
        await self._client.close()


async def open_stack(place: Place) -> AsyncpgPools:
    stack = AsyncpgPools(place)
    await stack.open()
    return stack
