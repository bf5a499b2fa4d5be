"""The connection to the NATS servers: made again forever, shared by the clusters of a process."""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import AsyncIterator
from contextvars import Context, copy_context
from math import inf
from typing import Protocol
from weakref import WeakValueDictionary

from nats import errors

from pgstatus import clock
from pgstatus.fleet.nats.client import OneClient, reason
from pgstatus.fleet.nats.lines import Lines
from pgstatus.monitor.resolver import Resolver
from pgstatus.monitor.threads import in_thread
from pgstatus.settings.nats import Login, Nats, NatsServer, read_login, read_tls

log = logging.getLogger(__name__)

_CONNECT = 2.0
"""Seconds for name resolution and files, and then for connection and login."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two attempts. Half of it is random: many instances lose a server at once."""
_STABLE = 10.0
"""After a connection that lasted so many seconds the pauses begin with the first again."""
_FIRST_PATIENCE, _LONGEST_PATIENCE = 4.0, 60.0
"""Seconds for which a connection that is of no use is kept: first so long that a watcher can leave
a server that does not respond, then longer each time.
"""


class User(Protocol):
    """A publisher or a source. Its methods are called on the event loop."""

    async def use(self, client: OneClient) -> None:
        """Use a new connection until cancelled: it has ended, or is not needed any more. Errors of
        nats-py may be raised.
        """

    def disconnected(self, text: str) -> None:
        """The connection has ended, or could not be made."""


class Connection:
    """Exists while it has users."""

    def __init__(self, nats: Nats) -> None:
        self.loop = asyncio.get_running_loop()
        self._nats = nats
        self._servers = random.sample(nats.servers, len(nats.servers))
        self._resolvers = {server.host: Resolver(server.host) for server in nats.servers}
        self._files: asyncio.Future[tuple[Login | None, ssl.SSLContext | None]] | None = None
        self._users: dict[User, Context] = {}
        """Their log messages name their clusters."""
        self._uses: dict[User, asyncio.Task[None]] = {}
        """The tasks of `User.use`."""
        self._running: asyncio.Task[None] | None = None
        self._client: OneClient | None = None
        self._useless_for: set[User] = set()
        self._useless_since = inf
        """For all users."""
        self._patience = _FIRST_PATIENCE
        self._lines = Lines(log)
        self._is_news = True
        """The next connection is logged: the last line is about a failure, or there is none."""

    @contextlib.asynccontextmanager
    async def used_by(self, user: User) -> AsyncIterator[None]:
        """While this context is entered, the user is connected again and again."""
        self._users[user] = copy_context()
        if self._running is None:
            # The lines about it belong to no cluster.
            self._running = self.loop.create_task(self._run(), context=Context())
        elif self._client is not None:
            self._begin(user, self._client)
        try:
            yield
        finally:
            del self._users[user]
            self._useless_for.discard(user)
            tasks = [self._uses[user]] if user in self._uses else []
            if not self._users and self._running is not None:
                tasks.append(self._running)
                self._running = None
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def is_useful(self, user: User) -> None:
        """What the user needs is available through this connection."""
        self._useless_for.discard(user)
        self._useless_since, self._patience = inf, _FIRST_PATIENCE

    def is_useless(self, user: User, text: str) -> None:
        """It is not: if no other user has any use for it, another server is tried.

        The servers may be separated from each other, or one may respond and do nothing else.
        """
        self._useless_for.add(user)
        if self._client is None or not self._useless_for.issuperset(self._users):
            return
        now = clock.now()
        self._useless_since = min(self._useless_since, now)
        if now - self._useless_since >= self._patience and len(self._servers) > 1:
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
            self._client.leave(text)

    async def _run(self) -> None:
        attempts = 0
        while self._users:  # nats-py may swallow a cancellation
            server = self._servers.pop(0)
            self._servers.append(server)
            began = clock.now()
            text = await self._connect_and_wait(server)
            self._is_news |= self._lines.warning(text)
            for user in tuple(self._users):
                self._users[user].run(user.disconnected, text)
            attempts = 1 if clock.now() - began > _STABLE else attempts + 1
            rounds = min((attempts - 1) // len(self._servers), 10)
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**rounds)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311

    async def _connect_and_wait(self, server: NatsServer) -> str:
        """Why there is no connection, or no longer one."""
        try:
            client = await self.connect(server)
        except Exception as error:  # various ones of nats-py, asyncio, ssl and nkeys
            return f"cannot connect to {server}: {reason(error)}"
        log.log(logging.INFO if self._is_news else logging.DEBUG, "NATS: connected to %s", server)
        self._is_news = False
        self._client, self._useless_since = client, inf
        try:
            for user in tuple(self._users):
                self._begin(user, client)
            return f"connection to {server} lost: {await client.end()}"
        finally:
            self._client = None
            for task in self._uses.values():
                task.cancel()
            self._uses = {}
            await client.abandon()

    async def connect(self, server: NatsServer) -> OneClient:
        """Connect to this server; an exception of nats-py, asyncio, ssl or nkeys otherwise."""
        try:
            async with asyncio.timeout(_CONNECT):
                login, tls = await asyncio.shield(self._read_files())
                addresses = await self._resolvers[server.host].addresses()
        except TimeoutError:
            raise TimeoutError("the name cannot be resolved, or a file cannot be read") from None
        failure: Exception = OSError("the name has no address")
        for address in addresses:
            client = OneClient(self._report)
            try:
                await client.open(
                    address, server, login or server.login, tls, _CONNECT / len(addresses)
                )
            except Exception as error:
                failure = error
                await client.abandon()
            except BaseException:
                await client.abandon()
                raise
            else:
                return client
        raise failure

    def _read_files(self) -> "asyncio.Future[tuple[Login | None, ssl.SSLContext | None]]":
        """At each connection, because they may be replaced; in a thread, because a file system may
        not respond.
        """
        if self._files is None or self._files.done():
            self._files = in_thread(self._files_now, "read the files for NATS")
        return self._files

    def _files_now(self) -> tuple[Login | None, ssl.SSLContext | None]:
        file = self._nats.credentials_file
        return None if file is None else read_login(file), read_tls(self._nats)

    def _begin(self, user: User, client: OneClient) -> None:
        self._uses[user] = self.loop.create_task(self._use(user, client), context=self._users[user])

    async def _use(self, user: User, client: OneClient) -> None:
        try:
            await user.use(client)
        except Exception as error:  # various ones of nats-py; the others are not concerned
            self._lines.warning(reason(error))

    def _report(self, error: Exception) -> None:
        if isinstance(error, errors.SlowConsumerError):
            self._lines.warning("messages were dropped because this process was too slow")
        else:
            self._lines.warning(reason(error))


_connections: WeakValueDictionary[Nats, Connection] = WeakValueDictionary()


def connection_to(nats: Nats) -> Connection:
    """The connection with these settings, which the users on one event loop share."""
    found = _connections.get(nats)
    if found is None or found.loop is not asyncio.get_running_loop():
        found = _connections[nats] = Connection(nats)
    return found
