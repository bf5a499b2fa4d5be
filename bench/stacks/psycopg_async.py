"""pgstatus.psycopg for asyncio."""

from typing import Any

from psycopg.conninfo import make_conninfo

from bench.stacks.stack import READ, WRITE, Place, Read
from pgstatus.client import AsyncPgStatusClient
from pgstatus.psycopg import AsyncPools


class PsycopgAsync:
    def __init__(self, place: Place) -> None:
        self._client = AsyncPgStatusClient(place.url)
        conninfo = make_conninfo(
            user=place.user, password=place.password, dbname=place.dbname, connect_timeout=2
        )
        self._pools = AsyncPools(self._client, conninfo, max_size=place.users)
        self._master = self._pools.master()
        self._replica = self._pools.replica(lag_ms=place.lag_ms)

    async def open(self) -> None:
        await self._pools.open()

    async def write(self, value: int) -> Any:
        async with self._master.connection() as connection:
            await connection.execute(WRITE.format("%s").encode(), (value,))
            await connection.commit()
            return await connection.bookmark()

    async def read(self, value: int, bookmark: Any) -> Read:
        async with self._replica.connection(after=bookmark) as connection:
            cursor = await connection.execute(READ.format("%s").encode(), (value,))
            row = await cursor.fetchone()
            assert row is not None
            return Read(bool(row[0]), row[1])

    async def close(self) -> None:
        await self._pools.close()
        await self._client.close()


async def open_stack(place: Place) -> PsycopgAsync:
    stack = PsycopgAsync(place)
    await stack.open()
    return stack
