"""pgstatus.psycopg for threads."""

from typing import Any

from psycopg.conninfo import make_conninfo

from bench.stacks.stack import READ, WRITE, Place, Read
from pgstatus.client import PgStatusClient
from pgstatus.psycopg import Pools


class PsycopgThreads:
    def __init__(self, place: Place) -> None:
        self._client = PgStatusClient(place.url)
        conninfo = make_conninfo(
            user=place.user, password=place.password, dbname=place.dbname, connect_timeout=2
        )
        self._pools = Pools(self._client, conninfo, max_size=place.users)
        self._pools.open()
        self._master = self._pools.master()
        self._replica = self._pools.replica(lag_ms=place.lag_ms)

    def write(self, value: int) -> Any:
        with self._master.connection() as connection:
            connection.execute(WRITE.format("%s").encode(), (value,))
            connection.commit()
            return connection.bookmark()

    def read(self, value: int, bookmark: Any) -> Read:
        with self._replica.connection(after=bookmark) as connection:
            row = connection.execute(READ.format("%s").encode(), (value,)).fetchone()
            assert row is not None
            return Read(bool(row[0]), row[1])

    def close(self) -> None:
        self._pools.close()
        self._client.close()


def open_stack(place: Place) -> PsycopgThreads:
    return PsycopgThreads(place)
