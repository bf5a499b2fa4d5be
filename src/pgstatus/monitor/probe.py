"""One host, asked with psycopg: a kept connection, one round trip a check, one hard deadline.

Everything that PostgreSQL's client library can say is translated here into an `Observation` or a
`CheckError`. PgBouncer and Odyssey are hosts too, so: no start-up ``options``, no prepared
statements, no transaction around the query.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from types import NoneType
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo

from pgstatus.clock import now
from pgstatus.core.snapshot import Observation, Position
from pgstatus.errors import Cause, CheckError, in_a_line
from pgstatus.lsn import parse_lsn
from pgstatus.monitor.resolver import Resolver
from pgstatus.settings.secrets import read_secret
from pgstatus.settings.target import Target

log = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]

# One row, for any role and both kinds of host, PostgreSQL 10 and newer. The sub-select with OFFSET
# keeps pg_is_in_recovery() from being asked twice, with a promotion between the two answers.
# pg_walfile_name() carries the timeline that is being written from the moment of a promotion,
# while the control file's is that of the last checkpoint.
_QUERY = """
SELECT in_recovery,
       CASE WHEN in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text,
       CASE WHEN NOT in_recovery THEN pg_walfile_name(pg_current_wal_lsn()) END,
       (SELECT count(*) FROM pg_stat_wal_receiver),
       (SELECT received_tli FROM pg_stat_wal_receiver),
       extract(epoch FROM clock_timestamp())::float8,
       extract(epoch FROM pg_last_xact_replay_timestamp())::float8,
       {control}
  FROM (SELECT pg_is_in_recovery() AS in_recovery OFFSET 0) AS role
"""
_FULL = _QUERY.format(
    control="""(SELECT system_identifier FROM pg_control_system()),
       CASE WHEN in_recovery THEN (
         SELECT greatest(r.min_recovery_end_timeline, c.timeline_id)
           FROM pg_control_recovery() AS r, pg_control_checkpoint() AS c) END"""
)
# What each column is; where it may be null, None as well.
_TYPES: tuple[tuple[type, ...], ...] = (
    (bool,),
    (str, NoneType),
    (str, NoneType),
    (int,),
    (int, NoneType),
    (float,),
    (float, NoneType),
    (int, NoneType),
    (int, NoneType),
)
# Where an administrator has revoked the control functions from PUBLIC.
_REDUCED = _QUERY.format(control="NULL::bigint, NULL::integer")


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """Something that the monitoring role may not read, what follows, and the SQL that grants it."""

    text: str
    remedy: str


_PREFIX = re.compile(
    r"^(connection failed: |connection is bad: )?(connection to server [^\n]*? failed: )?",
    re.DOTALL,
)


class _Connection(psycopg.AsyncConnection[Row]):
    async def wait(  # type: ignore[override]  # the timeout of the original is not used here
        self, gen: PQGen[T], interval: float = 1.0
    ) -> T:
        """Give a connection up on which a deadline passed.

        The original sends a cancel request first and waits for it: on a host that does not
        answer, that is another hang.
        """
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


class Probe:
    """Checks one host; not to be called again while a check is under way.

    ``on_lost`` is called, on the event loop, when the kept connection breaks between two checks.
    """

    def __init__(self, target: Target, on_lost: Callable[[], None]) -> None:
        self._target = target
        self._on_lost = on_lost
        self._resolver = Resolver(target.params["host"])
        self._connection: _Connection | None = None
        self._connected = 0.0
        self._watched: int | None = None
        self._query = _FULL
        self.shortcomings: tuple[Shortcoming, ...] = ()
        """All that were met with so far."""

    async def check(self) -> Observation:
        """Ask the host. CheckError says in words what went wrong, within the deadline."""
        self._unwatch()
        try:
            async with asyncio.timeout(self._target.query_timeout):
                observation = await self._ask()
        except TimeoutError:
            self._drop()
            limit = self._target.query_timeout
            raise CheckError(Cause.TIMEOUT, f"no answer to the query within {limit:g} s") from None
        except psycopg.Error as error:
            self._drop()
            cause = Cause.QUERY if error.sqlstate else Cause.CONNECT
            raise CheckError(cause, _words(error)) from None
        except BaseException:
            self._drop()
            raise
        if self._target.max_age:
            self._watch()
        else:
            self._drop()
        return observation

    async def position(self) -> Position:
        """Query the position alone."""
        seen = await self.check()
        return Position(seen.in_recovery, seen.lsn, seen.started, seen.finished)

    def close(self) -> None:
        """Give the connection back. The probe may be used again."""
        self._unwatch()
        self._drop()

    async def _ask(self) -> Observation:
        kept = self._connection
        if kept is not None and now() - self._connected < self._target.max_age:
            try:
                return await self._observe(kept)
            except psycopg.OperationalError:
                if not kept.closed:
                    raise
                # It broke since the last check; whether the host did too, a new one will show.
        self._drop()
        self._connection = await self._connect()
        self._connected = now()
        return await self._observe(self._connection)

    async def _connect(self) -> _Connection:
        target = self._target
        try:
            async with asyncio.timeout(target.connect_timeout) as deadline:
                addresses = await self._addresses()
                for position, address in enumerate(addresses, 1):
                    if position == len(addresses):
                        return await self._connect_to(address)
                    # An address that swallows packets (IPv6 without a route, say) leaves the
                    # others their share of the time.
                    now = asyncio.get_running_loop().time()
                    share = ((deadline.when() or now) - now) / (len(addresses) - position + 1)
                    with contextlib.suppress(TimeoutError, psycopg.Error):
                        async with asyncio.timeout(share):
                            return await self._connect_to(address)
                raise CheckError(Cause.RESOLVE, f"{target.params['host']} has no address")
        except TimeoutError:
            limit = target.connect_timeout
            raise CheckError(Cause.TIMEOUT, f"no connection within {limit:g} s") from None
        except psycopg.Error as error:
            words = _words(error)
            # A host that answers at all, if only to refuse, does so with a severity.
            raise CheckError(Cause.REJECTED if "FATAL" in words else Cause.CONNECT, words) from None

    async def _addresses(self) -> tuple[str, ...]:
        given = self._target.params.get("hostaddr")
        if given is not None:
            return (given,)
        try:
            return await self._resolver.addresses()
        except OSError as error:
            name = self._target.params["host"]
            raise CheckError(Cause.RESOLVE, f"cannot resolve {name}: {error}") from None

    async def _connect_to(self, address: str) -> _Connection:
        params = {"application_name": "pg-status", **self._target.params}
        # Text is read as UTF-8, whatever the database or PGCLIENTENCODING says.
        params["client_encoding"] = "UTF8"
        if not address.startswith("/"):
            params["hostaddr"] = address
        if self._target.password_file is not None:
            try:
                params["password"] = read_secret(self._target.password_file)
            except (OSError, ValueError) as error:
                raise CheckError(
                    Cause.PASSWORD, f"cannot read the password file: {error}"
                ) from None
        return await _Connection.connect(
            make_conninfo("", **params), autocommit=True, prepare_threshold=None
        )

    async def _observe(self, connection: _Connection) -> Observation:
        while True:
            started = now()
            try:
                row = await (await connection.execute(self._query)).fetchone()
                return self._read(row, started)
            except (TypeError, ValueError) as error:
                raise CheckError(
                    Cause.PROTOCOL, f"answered something unexpected: {error}"
                ) from None
            except psycopg.errors.InsufficientPrivilege as error:
                if self._query is _REDUCED:
                    raise
                self._query = _REDUCED
                self._miss(
                    f"{_words(error)}; hosts of another cluster cannot be told apart",
                    "GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_recovery(), "
                    f"pg_control_checkpoint() TO {self._role}",
                )

    def _read(self, row: Row | None, started: float) -> Observation:
        (
            in_recovery, lsn, wal_file, receivers, received, host_time, replayed_at,
            system_identifier, restart_timeline,
        ) = _checked(row or ())  # fmt: skip
        if in_recovery:
            # A receiver whose details are hidden leaves the timeline unknown, not wrong.
            timeline = received if receivers else restart_timeline
            if receivers and received is None:
                self._miss(
                    "may not read pg_stat_wal_receiver, so the timeline of a replica is unknown",
                    f"GRANT pg_monitor TO {self._role}",
                )
        else:
            if wal_file is None:
                raise ValueError("expected the name of a WAL file")
            timeline = int(wal_file[:8], 16)
        return Observation(
            in_recovery=in_recovery,
            lsn=None if lsn is None else parse_lsn(lsn),
            timeline=timeline or None,
            receiving=bool(receivers),
            system_identifier=system_identifier,
            host_time=host_time,
            replayed_at=replayed_at,
            started=started,
            finished=now(),
        )

    @property
    def _role(self) -> str:
        name = self._target.params.get("user", "")
        return '"' + name.replace('"', '""') + '"'

    def _miss(self, text: str, remedy: str) -> None:
        shortcoming = Shortcoming(text, f"{remedy};")
        if shortcoming not in self.shortcomings:
            self.shortcomings += (shortcoming,)
            log.warning("%s: %s; %s", self._target, text, shortcoming.remedy)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None

    def _watch(self) -> None:
        if self._connection is not None:
            self._watched = self._connection.pgconn.socket
            asyncio.get_running_loop().add_reader(self._watched, self._readable)

    def _unwatch(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    def _readable(self) -> None:
        """The host said something unasked: a changed parameter, or that it is going away."""
        if self._connection is None:
            return
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
            lost = pgconn.status == psycopg.pq.ConnStatus.BAD
        except psycopg.OperationalError:
            lost = True
        if lost:
            self._unwatch()
            self._drop()
            self._on_lost()


def _checked(row: Row) -> Row:
    """The row that was asked for; ValueError: it is none. What listens there may be anything."""
    if len(row) != len(_TYPES):
        raise ValueError(f"expected {len(_TYPES)} columns, got {len(row)}")
    for value, types in zip(row, _TYPES, strict=True):
        if not isinstance(value, types):
            raise ValueError(f"expected {types[0].__name__}, got {value!r}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"expected a finite number, got {value}")
    return row


def _words(error: psycopg.Error) -> str:
    """libpq's first line, without the address that the reader knows already and without advice."""
    text = _PREFIX.sub("", str(error).strip())
    return in_a_line(text.partition("\n")[0].strip()) or type(error).__name__
