"""The pool of each host.

With one pool for a changing host, a read could not be directed to a certain replica, and all
connections to the replicas would be replaced when one of them leaves. So each host has a pool of
its own, as in `pgstatus.sqlalchemy`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg

from pgstatus.client import ChosenHost
from pgstatus.routing.background import AsyncBackground
from pgstatus.routing.failures import cannot_connect, retires
from pgstatus.routing.following import Address

# A lost host does not end a connection by itself. In seconds.
CLOSE_SECONDS = 2.0

MakePool = Callable[..., Any]
"""Makes a pool with these options in addition to those of the application."""


class Host:
    """The pool of one host.

    is_master: the host was the master when it was last chosen.
    """

    def __init__(
        self,
        address: Address,
        make_pool: MakePool,
        connect: Callable[..., Any],
        remove: Callable[["Host"], None],
        background: AsyncBackground,
    ) -> None:
        self.address = address
        self.is_master = False
        self._connect_with = connect
        self._remove = remove
        self._background = background
        self._gone = asyncio.Event()
        self._opening = asyncio.Lock()
        self._is_open = False
        # Callers that have a connection, or wait for one.
        self._users = 0
        self._unused = asyncio.Event()
        host, port = address
        self._pool = make_pool(
            host=host, port=port, target_session_attrs="any", connect=self._connect
        )
        # The pool itself may serve a caller that has just come before those that wait.
        self._turn = asyncio.Semaphore(self._pool.get_max_size())

    @property
    def retired(self) -> bool:
        """The pool is not used any more."""
        return self._gone.is_set()

    async def acquire(self) -> Any | None:
        """A connection, for `release`; None: ask pg-status again, another host may be right."""
        self._users += 1
        self._unused.clear()
        try:
            connection = await self._acquire()
        except BaseException:
            self._left()
            raise
        if connection is None:
            self._left()
        return connection

    async def release(self, connection: Any) -> None:
        """Return a connection. If it is lost, the others are probably lost too."""
        if _is_closed(connection):
            self.retire()
        try:
            if not self.retired:
                await self._return(connection)
                return
            with suppress(Exception):
                await self._return(connection, CLOSE_SECONDS)
        finally:
            self._left()

    def retire(self) -> None:
        """Do not use this pool any more. Its callers that wait for a connection stop waiting."""
        self._gone.set()
        self._remove(self)

    def failed(self, error: BaseException) -> None:
        """A statement has failed."""
        if retires(error, is_master=self.is_master):
            self.retire()

    async def close(self) -> None:
        """Close idle connections now, and those in use when they are returned."""
        with suppress(Exception):
            for _ in range(self._pool.get_idle_size()):
                connection = await self._pool.acquire(timeout=CLOSE_SECONDS)
                await connection.close(timeout=CLOSE_SECONDS)
        await self._pool.expire_connections()
        if self._users:
            await self._unused.wait()
        with suppress(Exception):
            await asyncio.wait_for(self._pool.close(), CLOSE_SECONDS)

    async def _acquire(self) -> Any | None:
        await self._open()
        if self._gone.is_set():
            return None
        if self._pool.get_idle_size() and not self._turn.locked():
            connection = await self._take()
        else:
            connection = await self._acquire_unless_gone()
        if connection is not None and self.retired:
            self._release_later(connection)
            return None
        return connection

    async def _open(self) -> None:
        """Open the pool, unless it is. With a ``min_size`` this takes time."""
        if not self._is_open:
            async with self._opening:
                if not self._is_open and not self.retired:
                    try:
                        await self._pool
                    except BaseException:
                        self.retire()  # asyncpg has closed it
                        raise
                    self._is_open = True

    async def _acquire_unless_gone(self) -> Any | None:
        acquiring = asyncio.ensure_future(self._take())
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((acquiring, gone), return_when=asyncio.FIRST_COMPLETED)
            if acquiring.done():
                return acquiring.result()
        except BaseException:
            acquiring.add_done_callback(self._release_unclaimed)
            raise
        finally:
            gone.cancel()
            acquiring.cancel()  # has no effect if it is done
        acquiring.add_done_callback(self._release_unclaimed)
        return None

    def _release_unclaimed(self, acquiring: "asyncio.Future[Any]") -> None:
        if not acquiring.cancelled() and acquiring.exception() is None:
            self._release_later(acquiring.result())

    def _release_later(self, connection: Any) -> None:
        self._background.start(partial(self._return, connection, CLOSE_SECONDS))

    async def _take(self) -> Any:
        await self._turn.acquire()
        try:
            return await self._pool.acquire()
        except BaseException:
            self._turn.release()
            raise

    async def _return(self, connection: Any, timeout: float | None = None) -> None:
        try:
            await self._pool.release(connection, timeout=timeout)
        finally:
            self._turn.release()

    async def _connect(self, *args: Any, **options: Any) -> Any:
        try:
            connection = await self._connect_with(*args, **options)
        except Exception as error:
            if cannot_connect(error):
                # Afterwards, so that the caller whose attempt this is gets the error.
                asyncio.get_running_loop().call_soon(self.retire)
            raise
        connection.add_query_logger(self._log)
        return connection

    def _log(self, record: Any) -> None:
        if record.exception is not None:
            self.failed(record.exception)

    def _left(self) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()


def _is_closed(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool has noticed it, and taken it back


class Hosts:
    """The pools by address.

    is_open: connections may be acquired.
    """

    def __init__(self, make_pool: MakePool, connect: Callable[..., Any]) -> None:
        self.is_open = False
        self._make_pool = make_pool
        self._connect = connect
        self._hosts: dict[Address, Host] = {}
        self._background = AsyncBackground()

    def of(self, chosen: ChosenHost) -> Host:
        """The kept pool of this host. InterfaceError: the pools are not open."""
        if not self.is_open:
            raise asyncpg.InterfaceError("the pools are not open: use them as a context manager")
        address = chosen.host, chosen.port
        host = self._hosts.get(address)
        if host is None:
            host = Host(address, self._make_pool, self._connect, self._remove, self._background)
            self._hosts[address] = host
        host.is_master = chosen.role == "master"
        return host

    def retire(self, address: Address) -> None:
        """Remove a pool: idle connections are closed now, those in use when they are returned."""
        host = self._hosts.get(address)
        if host is not None:
            host.retire()

    async def close(self) -> None:
        """Remove all pools, and wait until their connections are returned."""
        self.is_open = False
        for address in tuple(self._hosts):
            self.retire(address)
        await self._background.wait()

    def _remove(self, host: Host) -> None:
        if self._hosts.get(host.address) is host:
            del self._hosts[host.address]
            # In the background: a lost host responds slowly, or not at all.
            self._background.start(host.close)
