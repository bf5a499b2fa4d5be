"""The pool of each host, for threads, generated from `hosts_async`: see ``make unasync``."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, cast
from weakref import WeakSet

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed

from pgstatus.client import ChosenHost
from pgstatus.psycopg.compat import TypeVar, sleep
from pgstatus.psycopg.connection import Connection
from pgstatus.routing.background import Background
from pgstatus.routing.failures import cannot_connect, is_transient, retires
from pgstatus.routing.following import Address

C = TypeVar("C", bound=Connection[Any], default=Connection[tuple[Any, ...]])

PoolFactory = Callable[[str, type[C]], ConnectionPool[C]]
"""Makes the pool of a host from its name and its class of connections."""

# How long the callers of a host to which no connection can be made wait, in seconds, before they
# ask pg-status again.
PAUSE = 0.1
# How long no further attempt is made after a rejected login, in seconds.
REJECTED_SECONDS = 1.0


class Host(Generic[C]):
    """The pool of one host.

    is_master: the host was the master when it was last chosen.
    retired: the pool is not used any more.
    failure: why the last attempt to connect has failed.
    """

    def __init__(
        self,
        address: Address,
        make_pool: PoolFactory[C],
        connection_class: type[C],
        remove: Callable[["Host[C]"], None],
        reject: Callable[[Address, psycopg.Error], None],
    ) -> None:
        self.address = address
        self.name = f"{address[0]}:{address[1]}"
        self.is_master = False
        self.retired = False
        self.failure: psycopg.Error | None = None
        # Empty, because the environment may contain others.
        self.parameters = {
            "host": address[0],
            "port": address[1],
            "hostaddr": "",
            "target_session_attrs": "any",
        }
        self._remove = remove
        self._reject = reject
        self._connections: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._lock = threading.Lock()
        with_target = type(connection_class.__name__, (connection_class,), {"_target": self})
        self.pool = make_pool(self.name, cast("type[C]", with_target))

    def open(self) -> None:
        """Open the pool, unless it is. PoolClosed: it is not used any more."""
        self.pool.open()
        if self.retired:  # by another thread, before it was open
            self.pool.close()

    def retire(self) -> None:
        """Do not use this pool any more."""
        self.retired = True
        self._remove(self)

    def size(self) -> int:
        """How many connections are open."""
        with self._lock:
            return sum(not connection.closed for connection in self._connections)

    def connected(self, connection: psycopg.Connection[Any]) -> None:
        self.failure = None
        with self._lock:
            self._connections.add(connection)

    def not_connected(self, error: psycopg.Error) -> None:
        self.failure = error
        if not cannot_connect(error) and self.size():
            return  # callers get one of the open connections; psycopg_pool tries again
        if is_transient(error):
            sleep(PAUSE)
        else:
            self._reject(self.address, error)
        self.retire()

    def failed(self, error: psycopg.Error, *, is_closed: bool) -> None:
        if retires(error, is_master=self.is_master, is_closed=is_closed):
            self.retire()


class Hosts(Generic[C]):
    """The pools by address.

    is_open: connections may be taken.
    """

    def __init__(self, make_pool: PoolFactory[C], connection_class: type[C]) -> None:
        self._make_pool = make_pool
        self._connection_class = connection_class
        self.is_open = False
        self._hosts: dict[Address, Host[C]] = {}
        self._rejections: dict[Address, tuple[float, psycopg.Error]] = {}
        self._background = Background()
        self._lock = threading.Lock()

    def of(self, chosen: ChosenHost) -> Host[C]:
        """The kept pool of this host.

        PoolClosed: the pools are not open. OperationalError: the login was rejected just now.
        """
        address = chosen.host, chosen.port
        with self._lock:
            if not self.is_open:
                raise PoolClosed("the pools are not open: use them as a context manager")
            rejected, error = self._rejections.get(address, (-REJECTED_SECONDS, None))
            if error is not None and time.monotonic() < rejected + REJECTED_SECONDS:
                raise psycopg.OperationalError(
                    f"no connection to {address[0]}:{address[1]} can be made: {error}"
                ) from error
            host = self._hosts.get(address)
            if host is None:
                host = Host(
                    address, self._make_pool, self._connection_class, self._remove, self._reject
                )
                self._hosts[address] = host
        host.is_master = chosen.role == "master"
        return host

    def get_stats(self) -> dict[str, dict[str, int]]:
        """The statistics of each pool."""
        with self._lock:
            hosts = tuple(self._hosts.values())
        return {host.name: host.pool.get_stats() for host in hosts}

    def retire(self, address: Address) -> None:
        """Remove a pool: idle connections are closed now, those in use when they are returned."""
        host = self._hosts.get(address)
        if host is not None:
            host.retire()

    def close(self) -> None:
        """Remove all pools."""
        with self._lock:
            self.is_open = False
            addresses = tuple(self._hosts)
        for address in addresses:
            self.retire(address)
        self._background.wait()

    def _reject(self, address: Address, error: psycopg.Error) -> None:
        with self._lock:
            self._rejections[address] = time.monotonic(), error

    def _remove(self, host: Host[C]) -> None:
        with self._lock:
            if self._hosts.get(host.address) is not host:
                return
            del self._hosts[host.address]
        # In the background: a lost host responds slowly, or not at all.
        self._background.start(host.pool.close)
