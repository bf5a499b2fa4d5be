"""Logins, in a helper thread per host, one at a time.

libpq blocks in places during a login: SCRAM with an iteration count that the server chooses,
Kerberos, files, warnings. A thread that does not return at the deadline is abandoned; the next
login waits for it.
"""

import asyncio
import errno
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pgstatus.errors import Cause, CheckError, in_a_line
from pgstatus.monitor import libpq
from pgstatus.monitor.limit import ReadLimit, TooMuchDataError
from pgstatus.monitor.threads import in_thread, wake

# "57P03: the server is starting up or shutting down", "57P01: it was shut down by the
# administrator" (PostgreSQL manual, "PostgreSQL Error Codes").
DOWN = frozenset({"57P01", "57P03"})
_PREFIX = re.compile(
    r"^(connection failed: |connection is bad: )?(connection to server [^\n]*? failed: )?",
    re.DOTALL,
)
_WITH_SQLSTATE = re.compile(r"(?P<severity>\S+:  )(?P<sqlstate>[0-9A-Z]{5}): (?P<message>.*)")
_NOT_RUNNING = {errno.ECONNREFUSED, errno.ENOENT}  # the latter: of a Unix socket
_SILENT = "no response in time"
_NOT_RUNNING_TEXTS = {os.strerror(code) for code in _NOT_RUNNING}


@dataclass(frozen=True, slots=True)
class Connected:
    """An established connection, and the address that it was made to."""

    pgconn: pq.abc.PGconn
    address: str


@dataclass(slots=True)
class LoginError(Exception):
    """The login at one address failed; ``sqlstate`` if the server itself rejected it."""

    message: str
    sqlstate: str | None = None
    refused: bool = False
    """No server listens at the address."""
    timed_out: bool = False
    address: str = field(default="", kw_only=True)

    @property
    def rank(self) -> int:
        """The more informative the lower."""
        return 0 if self.sqlstate else 2 if self.refused else 1


class Login:
    """Logs in to one host."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: asyncio.Future[Connected] | None = None
        self._began = 0.0
        self._is_abandoned = False
        self.unreachable = False
        """The last login failed before the server responded: a thread is started for the next one
        only when a TCP connection has succeeded."""

    async def connect(
        self,
        addresses: Sequence[str],
        port: int,
        params: Callable[[], Mapping[str, str]],
        seconds: float,
    ) -> Connected:
        """Log in within ``seconds`` at the first address that accepts.

        CheckError if none does; TimeoutError if none responds in time.

        ``params`` returns the connection parameters, and is called in the thread. May be cancelled.
        """
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        if self.unreachable:
            await _knock(addresses, port, seconds)
        try:
            self._running = in_thread(
                lambda: _log_in(addresses, params(), time.monotonic() + seconds),
                f"login {self._name}",
                _finish,
            )
        except OSError as error:
            raise CheckError(Cause.CONNECT, str(error)) from None
        self._began, self._is_abandoned = time.monotonic(), False
        try:
            connected = await asyncio.shield(self._running)
        except asyncio.CancelledError:
            self._is_abandoned = True
            self._running.add_done_callback(_abandon)
            raise
        except AllLoginsError as error:
            self.unreachable = all(e.sqlstate is None for e in error.errors)
            _raise(error.errors)
        self.unreachable = False
        return connected

    @property
    def blocked_for(self) -> float | None:
        """Seconds since an abandoned login began that has not returned; None: there is none."""
        if not self._is_abandoned or self._running is None or self._running.done():
            return None
        return time.monotonic() - self._began


@dataclass(slots=True)
class AllLoginsError(Exception):
    """No address accepted the login."""

    errors: list[LoginError]


def _raise(errors: Sequence[LoginError]) -> NoReturn:
    ranked = sorted(errors, key=lambda error: error.rank)
    if all(error.timed_out for error in ranked):
        raise TimeoutError from None
    message = ranked[0].message
    if len(ranked) > 1:
        message = "; ".join(f"{error.address}: {error.message}" for error in ranked)
    raise CheckError(
        Cause.REJECTED if ranked[0].sqlstate else Cause.CONNECT,
        message,
        down=all(error.refused or error.sqlstate in DOWN for error in ranked),
    ) from None


def _abandon(login: "asyncio.Future[Connected]") -> None:
    if not login.cancelled() and login.exception() is None:
        _finish(login.result())


def _finish(connected: Connected) -> None:
    connected.pgconn.finish()


async def _knock(addresses: Sequence[str], port: int, seconds: float) -> None:
    """Return if an address accepts a connection; otherwise raise as `Login.connect` does."""
    errors = []
    end = time.monotonic() + seconds
    for address, share in _shares(addresses, end):
        try:
            async with asyncio.timeout(share):
                await _connect(address, port)
        except TimeoutError:
            errors.append(LoginError(_SILENT, timed_out=True, address=address))
        except OSError as error:
            refused = error.errno in _NOT_RUNNING
            errors.append(LoginError(str(error.strerror), refused=refused, address=address))
        else:
            return
    _raise(errors)


def _shares(addresses: Sequence[str], end: float) -> Iterator[tuple[str, float]]:
    """Each address and the seconds that it may take.

    An address that drops packets (IPv6 without a route, for example) leaves the others their share.
    """
    for position, address in enumerate(addresses):
        yield address, max(0.0, end - time.monotonic()) / (len(addresses) - position)


async def _connect(address: str, port: int) -> None:
    """Make a connection and close it; OSError if that fails."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where: tuple[str, int] | str = (address, port)
    if address.startswith("/"):
        family, where = socket.AF_UNIX, f"{address}/.s.PGSQL.{port}"
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        code = connection.connect_ex(where)
        if code == errno.EINPROGRESS:
            writable = loop.create_future()
            loop.add_writer(connection, wake, writable)
            try:
                await writable
            finally:
                loop.remove_writer(connection)
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))


def _log_in(addresses: Sequence[str], params: Mapping[str, str], deadline: float) -> Connected:
    """In the thread: try the addresses in order, each with its share of the time."""
    errors: list[LoginError] = []
    for address, share in _shares(addresses, deadline):
        try:
            return Connected(_log_in_at(address, params, time.monotonic() + share), address)
        except LoginError as error:
            error.address = address
            errors.append(error)
    raise AllLoginsError(errors)


def _log_in_at(address: str, params: Mapping[str, str], deadline: float) -> pq.abc.PGconn:
    if not address.startswith("/"):
        params = {**params, "hostaddr": address}
    try:
        pgconn = pq.PGconn.connect_start(make_conninfo("", **params).encode())
    except psycopg.Error as error:
        raise LoginError(in_a_line(str(error))) from None
    try:
        _poll_until_connected(pgconn, deadline)
    except BaseException:
        pgconn.finish()
        raise
    return pgconn


def _poll_until_connected(pgconn: pq.abc.PGconn, deadline: float) -> None:
    limit = ReadLimit()
    libpq.show_sqlstate(pgconn)
    status = pq.PollingStatus.WRITING
    if pgconn.status == pq.ConnStatus.BAD:
        status = pq.PollingStatus.FAILED
    while status != pq.PollingStatus.OK:
        if status == pq.PollingStatus.FAILED:
            raise _login_error(pgconn.error_message.decode(errors="replace"))
        descriptor = pgconn.socket
        reading = status == pq.PollingStatus.READING
        poll = select.poll()
        poll.register(descriptor, select.POLLIN if reading else select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LoginError(_SILENT, timed_out=True)
        if reading:
            try:
                limit.take(descriptor)
            except TooMuchDataError as error:
                raise LoginError(str(error)) from None
        status = libpq.connect_poll(pgconn)


def _login_error(message: str) -> LoginError:
    """libpq's first line, without the address, which is known, and without hints."""
    line = _PREFIX.sub("", message.strip()).partition("\n")[0].strip()
    found = _WITH_SQLSTATE.match(line)
    if found is not None:
        return LoginError(found["severity"] + found["message"], found["sqlstate"])
    return LoginError(in_a_line(line) or "login failed", refused=line in _NOT_RUNNING_TEXTS)
