"""One engine per host, kept as long as the host can be used.

A round robin between replicas returns to pools with open connections. A host that has left, or is
not the master any more, loses its pool, so that no session gets an idle connection to it.
"""

import asyncio
from collections.abc import Callable, Iterable, Set

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from pgstatus.client import ChosenHost
from pgstatus.routing.failures import READ_ONLY_TRANSACTION
from pgstatus.sqlalchemy import driver
from pgstatus.sqlalchemy.cleanup import close_on_return, dispose_engine
from pgstatus.sqlalchemy.connect import (
    SessionMakerCreatorFunc,
    bound_session_maker,
    require_bound,
)
from pgstatus.sqlalchemy.failures import refuse_to_commit_aborted, watch_engine
from pgstatus.sqlalchemy.writes import watch_writes

EngineCreator = Callable[[str, int], AsyncEngine]
Address = tuple[str, int]


class Pool:
    """The engine of one host and its session maker.

    is_master: the host was the master when it was last chosen as one.
    retired: new sessions do not use it any more.
    """

    def __init__(
        self, address: Address, engine: AsyncEngine, session_maker_creator: SessionMakerCreatorFunc
    ) -> None:
        self.address = address
        self.engine = engine
        self.is_master = False
        self.retired = False
        self._maker = bound_session_maker(session_maker_creator, engine)
        self._watched = False

    @property
    def maker(self) -> async_sessionmaker[AsyncSession]:
        """The session maker. ValueError: it has been bound to another engine since."""
        require_bound(self._maker, self.engine)
        return self._maker

    def watch_writes(self, cluster: str) -> None:
        """Note the writes of requests that keep notes; it has a cost for every query."""
        if not self._watched:
            self._watched = True
            watch_writes(self.engine.sync_engine, cluster, driver)

    def rebind(self, session: AsyncSession) -> None:
        """Let a session without a connection use this pool; its objects stay attached."""
        session.bind = self.maker.kw["bind"]
        session.sync_session.bind = session.bind.sync_engine

    async def dispose(self) -> None:
        """Close idle connections now, and those in use when their sessions return them."""
        await dispose_engine(self.engine)
        # A session that was created before may still connect; it is the last to use this engine.
        close_on_return(self.engine.sync_engine.pool)


class Pools:
    """The pools of one cluster by address."""

    def __init__(
        self, engine_creator: EngineCreator, session_maker_creator: SessionMakerCreatorFunc
    ) -> None:
        self._engine_creator = engine_creator
        self.session_maker_creator = session_maker_creator
        self._pools: dict[Address, Pool] = {}
        self._disposing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._pools)

    def addresses(self) -> tuple[Address, ...]:
        """The hosts that have a pool."""
        return tuple(self._pools)

    def of(self, chosen: ChosenHost) -> Pool:
        """The kept pool of this host."""
        address = chosen.host, chosen.port
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = self._new(address)
        pool.is_master = chosen.role == "master"
        return pool

    def retire(self, addresses: Iterable[Address]) -> None:
        """Remove pools. They are closed in the background: a lost host responds slowly."""
        for address in addresses:
            pool = self._pools.pop(address, None)
            if pool is not None:
                pool.retired = True
                task = asyncio.create_task(pool.dispose())
                self._disposing.add(task)
                task.add_done_callback(self._disposing.discard)

    def keep(self, alive: Set[Address], *, has_master: bool) -> None:
        """Remove the pools of the hosts that are not alive."""
        self.retire(address for address in self.addresses() if address not in alive)

    async def close(self) -> None:
        """Close every pool; connections in use close when they are returned."""
        self.retire(self.addresses())
        if self._disposing:
            await asyncio.wait(self._disposing)

    def _new(self, address: Address) -> Pool:
        pool = Pool(address, self._engine_creator(*address), self.session_maker_creator)

        def failed(sqlstate: str) -> None:
            # A replica rejects every write: there, 25006 is an error of the application.
            if sqlstate != READ_ONLY_TRANSACTION or pool.is_master:
                pool.retired = True
                if self._pools.get(address) is pool:
                    self.retire((address,))

        refuse_to_commit_aborted(pool.engine.sync_engine)
        watch_engine(pool.engine.sync_engine, failed)
        return pool


def callbacks_run_in() -> object:
    """What callbacks of the client end with."""
    return asyncio.get_running_loop()
