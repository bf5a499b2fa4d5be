"""Sessions that follow the cluster: pg-status names the host, and each host's engine is kept.

A round robin between replicas comes back to a pool that is still warm. A host that has left, or was
the master and is not any more, loses its engine: nobody gets an idle connection to it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from pgstatus.client import AsyncPgStatusClient, ChosenHost, ClientError, parse_lsn
from pgstatus.client.cache import NOBODY
from pgstatus.sqlalchemy.bookmark import Bookmark, current_notes
from pgstatus.sqlalchemy.cleanup import close_on_return, dispose_engine
from pgstatus.sqlalchemy.connect import DBConnect, SessionMakerCreatorFunc
from pgstatus.sqlalchemy.written import watch_sessions

EngineCreator = Callable[[str, int], AsyncEngine]
Address = tuple[str, int]

# How often a new session looks for hosts that have left, in seconds.
SWEEP_SECONDS = 1.0


class _Pool:
    """One host's engine, and its session makers: for reading, and for noting what is written."""

    def __init__(
        self, engine: AsyncEngine, session_maker_creator: SessionMakerCreatorFunc, cluster: str
    ) -> None:
        self.engine = engine
        self.reading = session_maker_creator(engine)
        self.writing = session_maker_creator(engine)
        watch_sessions(self.writing, cluster)

    async def retire(self) -> None:
        """Close what is idle now, and what is in use as soon as its session gives it back."""
        await dispose_engine(self.engine)
        # A session that was made before may still connect; it is the last to use this engine.
        close_on_return(self.engine.sync_engine.pool)


class PgStatusCluster:
    """The databases that one pg-status watches. One object for the application's life.

    engine_creator: the engine for ``(host, port)`` as pg-status names them.
    session_maker_creator: the session maker for an engine; called twice per engine.
    name: tells clusters apart in a client's bookmark; needed when there are several.
    """

    def __init__(
        self,
        client: AsyncPgStatusClient,
        engine_creator: EngineCreator,
        session_maker_creator: SessionMakerCreatorFunc,
        *,
        name: str = "default",
    ) -> None:
        self.client = client
        self.name = name
        self._engine_creator = engine_creator
        self._session_maker_creator = session_maker_creator
        self._pools: dict[Address, _Pool] = {}
        self._master: Address | None = None
        self._sweep_at = 0.0
        self._retiring: set[asyncio.Task[None]] = set()

    def master(self) -> "PgStatusConnect":
        """Sessions on the master of the moment.

        They raise NoHostError while there is none, SplitBrainError while pg-status was told to
        choose none of several.
        """
        return _MasterConnect(self)

    def replica(
        self,
        *,
        lag_ms: int | None = None,
        lag_bytes: int | None = None,
        wait_ms: int | None = None,
    ) -> "PgStatusConnect":
        """Sessions on a replica within the limits, in turn; on the master when there is none.

        In a request that has written, or whose client has (see ReadYourWritesMiddleware), on a
        replica that has these writes; ``wait_ms`` is how long pg-status may wait for one, by
        default as it is configured.
        """
        return _ReplicaConnect(self, lag_ms, lag_bytes, wait_ms)

    async def close(self) -> None:
        """Close every pool; connections in use close as they are given back. And the client."""
        self._master = None
        for address in tuple(self._pools):
            self._retire(address)
        if self._retiring:
            await asyncio.wait(self._retiring)
        await self.client.close()

    async def _pool_of(self, chosen: ChosenHost) -> _Pool:
        """The kept pool of this host."""
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            await self._sweep()
        address = chosen.host, chosen.port
        pool = self._pools.get(address)
        if pool is None:
            engine = self._engine_creator(*address)
            pool = self._pools[address] = _Pool(engine, self._session_maker_creator, self.name)
        return pool

    def _master_is(self, chosen: ChosenHost) -> None:
        """What pg-status has just answered. The pool of the one before goes."""
        address = chosen.host, chosen.port
        if address != self._master:
            before, self._master = self._master, address
            if before is not None:
                self._retire(before)

    def _retire(self, address: Address) -> None:
        """Take the pool of ``address`` out; it is closed beside, as a lost host is in no hurry."""
        pool = self._pools.pop(address, None)
        if pool is not None:
            task = asyncio.create_task(pool.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _sweep(self) -> None:
        if not self._pools:
            return
        try:
            hosts = await self.client.hosts()
        except ClientError:
            return  # nothing is known about the hosts, so nothing against them
        alive = {(host.host, host.port) for host in hosts if host.alive}
        for address in [address for address in self._pools if address not in alive]:
            self._retire(address)


class PgStatusConnect(DBConnect):
    """A DBConnect whose host is chosen anew for each session. Made by a PgStatusCluster.

    ``host`` is the one of the last session. ClientError: pg-status cannot be asked.
    """

    def __init__(self, cluster: PgStatusCluster) -> None:
        super().__init__(_not_yours, cluster._session_maker_creator)
        self._cluster = cluster

    async def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """The session maker of the host that is right at this moment."""
        chosen = await self._choose()
        maker = await self._maker(chosen)
        self.host = chosen.host
        return maker

    async def connect(self, host: str) -> None:
        """Not to be called: RuntimeError."""
        _not_yours(host)

    async def change_host(self, host: str) -> None:
        """Not to be called: RuntimeError."""
        _not_yours(host)

    async def close(self) -> None:
        """Close the cluster, which every PgStatusConnect of it shares."""
        await self._cluster.close()

    async def _choose(self) -> ChosenHost:
        raise NotImplementedError

    async def _maker(self, chosen: ChosenHost) -> async_sessionmaker[AsyncSession]:
        return (await self._cluster._pool_of(chosen)).reading


class _MasterConnect(PgStatusConnect):
    async def _choose(self) -> ChosenHost:
        chosen = await self._cluster.client.master()
        self._cluster._master_is(chosen)
        return chosen

    async def _maker(self, chosen: ChosenHost) -> async_sessionmaker[AsyncSession]:
        return (await self._cluster._pool_of(chosen)).writing


class _ReplicaConnect(PgStatusConnect):
    def __init__(
        self,
        cluster: PgStatusCluster,
        lag_ms: int | None,
        lag_bytes: int | None,
        wait_ms: int | None,
    ) -> None:
        super().__init__(cluster)
        self._lag_ms = lag_ms
        self._lag_bytes = lag_bytes
        self._wait_ms = wait_ms

    async def _choose(self) -> ChosenHost:
        client = self._cluster.client
        notes = current_notes.get()
        mark = None if notes is None else notes.marks.get(self._cluster.name)
        if mark is None:
            return await client.replica(lag_ms=self._lag_ms, lag_bytes=self._lag_bytes)
        if mark.is_pinned():
            return await client.master()
        try:
            chosen = await client.replica(
                lag_ms=self._lag_ms,
                lag_bytes=self._lag_bytes,
                min_lsn=mark.position(),
                wait_ms=self._wait_ms,
            )
        except NOBODY:
            # Even the master that pg-status knows is older than what was written; or there are two.
            raise
        except ClientError:
            # No answer, or one of a pg-status that does not know timelines. The master is known
            # for longer than which replica has what.
            return await client.master()
        return chosen if _has(chosen, mark) else await client.master()


def _has(chosen: ChosenHost, mark: Bookmark) -> bool:
    """Whether this is certain; a pg-status that does not know ``min_lsn`` ignores it."""
    if chosen.role == "master":
        return True
    return chosen.lsn is not None and parse_lsn(chosen.lsn) >= parse_lsn(mark.lsn)


def _not_yours(_: str) -> NoReturn:
    raise RuntimeError("this connection follows pg-status; its host is not changed by hand")
