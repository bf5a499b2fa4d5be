"""One engine per host, kept as long as the host can be used; as `pgstatus.sqlalchemy.pools`.

Any thread may retire a pool, also the one that follows pg-status in the background. A forked child
has pools of its own.
"""

import os
import threading
from collections.abc import Callable, Iterable, Set
from weakref import WeakSet

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from pgstatus.client import ChosenHost
from pgstatus.routing.failures import READ_ONLY_TRANSACTION
from pgstatus.sqlalchemy.connect import bound_session_maker, require_bound
from pgstatus.sqlalchemy.failures import refuse_to_commit_aborted, watch_engine
from pgstatus.sqlalchemy.sync import driver
from pgstatus.sqlalchemy.sync.connect import SessionMakerCreatorFunc
from pgstatus.sqlalchemy.sync.interrupt import Interrupter
from pgstatus.sqlalchemy.writes import watch_writes

EngineCreator = Callable[[str, int], Engine]
Address = tuple[str, int]


class Pool:
    """The engine of one host and its session maker.

    is_master: the host was the master when it was last chosen as one.
    retired: new sessions do not use it any more.
    """

    def __init__(
        self, address: Address, engine: Engine, session_maker_creator: SessionMakerCreatorFunc
    ) -> None:
        self.address = address
        self.engine = engine
        self.is_master = False
        self.retired = False
        self._maker = bound_session_maker(session_maker_creator, engine)
        self._lock = threading.Lock()
        self._watched = False
        self._interrupter = Interrupter(engine)
        # Not when it is retired: a list of listeners must not grow while another thread reads it.
        event.listen(engine.pool, "checkin", self._returned)

    @property
    def maker(self) -> sessionmaker[Session]:
        """The session maker. ValueError: it has been bound to another engine since."""
        require_bound(self._maker, self.engine)
        return self._maker

    def watch_writes(self, cluster: str) -> None:
        """Note the writes of requests that keep notes; it has a cost for every query."""
        with self._lock:
            if not self._watched:
                self._watched = True
                watch_writes(self.engine, cluster, driver)

    def rebind(self, session: Session) -> None:
        """Let a session without a connection use this pool; its objects stay attached."""
        session.bind = self.maker.kw["bind"]

    def dispose(self) -> None:
        """Close idle connections now, and those in use when their sessions return them."""
        self.retired = True
        # A session that was created before may still connect, to the pool that replaces this one.
        self.engine.dispose()

    def interrupt(self) -> None:
        """Let the threads that wait for the host raise the error of a lost connection."""
        self._interrupter.interrupt()

    def _returned(self, _: object, entry: ConnectionPoolEntry) -> None:
        if self.retired:
            entry.invalidate()


class Pools:
    """The pools of one cluster by address."""

    def __init__(
        self, engine_creator: EngineCreator, session_maker_creator: SessionMakerCreatorFunc
    ) -> None:
        self._engine_creator = engine_creator
        self.session_maker_creator = session_maker_creator
        self._of_parents: list[Pool] = []
        self._reset()

    def _reset(self) -> None:
        self._pools: dict[Address, Pool] = {}
        self._retired: WeakSet[Pool] = WeakSet()
        # Reentrant: an engine creator of the application may use the cluster.
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._pools)

    def addresses(self) -> tuple[Address, ...]:
        """The hosts that have a pool."""
        self._enter_process()
        return tuple(self._pools)

    def of(self, chosen: ChosenHost) -> Pool:
        """The kept pool of this host."""
        self._enter_process()
        address = chosen.host, chosen.port
        with self._lock:
            pool = self._pools.get(address)
            if pool is None:
                pool = self._pools[address] = self._new(address)
        pool.is_master = chosen.role == "master"
        return pool

    def retire(self, addresses: Iterable[Address]) -> None:
        """Remove pools and close them."""
        self._enter_process()
        for address in addresses:
            with self._lock:
                pool = self._pools.get(address)
            if pool is not None:
                self._retire(pool)

    def keep(self, alive: Set[Address], *, has_master: bool) -> None:
        """Remove the pools of the hosts that are not alive.

        has_master: there is a master. Threads that still wait for a former one are released: what
            they write there is lost, and the server may never respond.
        """
        self.retire(address for address in self.addresses() if address not in alive)
        if has_master:
            with self._lock:
                lost = [pool for pool in self._retired if pool.address not in alive]
            for pool in lost:
                if pool.is_master:
                    pool.interrupt()

    def close(self) -> None:
        """Close every pool; connections in use close when they are returned."""
        self.retire(self.addresses())

    def _retire(self, pool: Pool) -> None:
        with self._lock:
            if self._pools.get(pool.address) is pool:
                del self._pools[pool.address]
            self._retired.add(pool)
        pool.dispose()

    def _enter_process(self) -> None:
        """Leave the pools to the parent of this process, if it has been forked since."""
        if self._pid != os.getpid():
            pools = tuple(self._pools.values())
            self._reset()
            for pool in pools:
                pool.retired = True
                pool.engine.dispose(close=False)
            self._of_parents.extend(pools)  # the connections must not be closed

    def _new(self, address: Address) -> Pool:
        pool = Pool(address, self._engine_creator(*address), self.session_maker_creator)

        def failed(sqlstate: str) -> None:
            # A replica rejects every write: there, 25006 is an error of the application.
            if sqlstate != READ_ONLY_TRANSACTION or pool.is_master:
                self._retire(pool)

        refuse_to_commit_aborted(pool.engine)
        watch_engine(pool.engine, failed)
        return pool


def callbacks_run_in() -> object:
    """The callbacks of the client for threads continue as long as the client, also after a fork."""
    return None
