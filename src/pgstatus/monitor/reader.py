"""Reads what a host reports: one round trip, as many facts as the role and the server allow.

PgBouncer and Odyssey are hosts too, so there are no prepared statements and no session state.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from pgstatus.clock import now
from pgstatus.core.connections import Usage
from pgstatus.core.snapshot import Observation, Position
from pgstatus.monitor import connections, facts, row
from pgstatus.monitor.facts import AURORA, FACTS, REPLAYED, ROLE, UNAVAILABLE, WRITTEN, Fact
from pgstatus.monitor.login import DOWN
from pgstatus.monitor.session import ConnectionLostError, QueryError, Session, Values

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """Something that the monitoring role may not read, what follows, and the SQL that grants it."""

    text: str
    remedy: str


class NoTransactionsError(Exception):
    """The host is a pooler in statement mode. It has closed the connection; the next query on a
    new one is sent without a transaction.
    """


class Reader:
    """Queries one host, whose sessions come and go."""

    def __init__(self, host: str, role: str) -> None:
        self._host = host
        self._role = facts.quoted(role)
        self._in_transaction = True
        self._missing: set[Fact] = set()
        self._extra: tuple[Fact, ...] = ()
        self._retry_missing = False
        self.shortcomings: tuple[Shortcoming, ...] = ()
        """All that were found so far."""

    def connected(self) -> None:
        """There is a new session: what was missing may be available, after a GRANT for example."""
        self._retry_missing = bool(self._missing)

    async def observe(self, session: Session) -> Observation:
        """Query all facts that are available."""
        if self._retry_missing:
            self._retry_missing = False
            await self._find_missing(session, self._missing)
        while True:
            wanted = [*(fact for fact in FACTS if fact not in self._missing), *self._extra]
            started = now()
            try:
                values = await self._query(session, facts.select(wanted))
            except QueryError as error:
                known = set(self._missing)
                if error.sqlstate not in UNAVAILABLE:
                    raise
                await self._find_missing(session, FACTS)
                if self._missing == known:
                    raise
                continue
            observation, is_hidden = row.read(values, wanted, started, now())
            if is_hidden:
                self._hidden(observation)
            return observation

    async def position(self, session: Session) -> Position:
        """Query the position alone, if that is possible."""
        if REPLAYED not in self._missing:
            started = now()
            try:
                values = await self._query(session, facts.POSITION)
                return row.read_position(values, started, now())
            except QueryError as error:
                if error.sqlstate not in UNAVAILABLE:
                    raise
        seen = await self.observe(session)
        return Position(seen.in_recovery, seen.lsn, seen.started, seen.finished)

    async def usages(self, session: Session) -> tuple[Usage, ...]:
        """Query the limits on connections that are available."""
        found = []
        for kind, query in connections.QUERIES.items():
            try:
                values = await self._query(session, query)
            except QueryError as error:
                if error.sqlstate not in UNAVAILABLE:
                    raise
                continue
            found.append(connections.usage_of(kind, values, session.server_pid))
        return tuple(usage for usage in found if usage is not None)

    async def _query(self, session: Session, statement: str) -> Values:
        if self._in_transaction:
            statement = facts.in_transaction(statement)
        try:
            return await session.query(statement)
        except (QueryError, ConnectionLostError) as error:
            if self._in_transaction and "statement pooling" in str(error):
                self._in_transaction = False
                raise NoTransactionsError from None
            if isinstance(error, QueryError) and error.sqlstate in DOWN:
                raise ConnectionLostError(str(error)) from None
            raise

    async def _find_missing(self, session: Session, suspects: Collection[Fact]) -> None:
        """Query the facts one by one; note which are unavailable, and why."""
        unsupported = False
        for fact in tuple(suspects):
            error = await self._error_of(session, fact)
            if error is None:
                self._missing.discard(fact)
                continue
            if fact is ROLE:
                self._report(fact, error)
                raise error
            if fact not in self._missing:
                self._report(fact, error)
                self._missing.add(fact)
            unsupported |= fact in {REPLAYED, WRITTEN} and error.sqlstate != "42501"
        if unsupported:
            self._extra = () if await self._error_of(session, AURORA) else (AURORA,)

    async def _error_of(self, session: Session, fact: Fact) -> QueryError | None:
        try:
            await self._query(session, facts.select((fact,)))
        except QueryError as error:
            if error.sqlstate not in UNAVAILABLE:
                raise
            return error
        return None

    def _report(self, fact: Fact, error: QueryError) -> None:
        text = f"{error}: {fact.name} is not available"
        if error.sqlstate == "42501":
            self._miss(text, " ".join(facts.grants(fact, str(error), self._role)))
        else:
            log.info("%s: %s", self._host, text)

    def _hidden(self, observation: Observation) -> None:
        text = (
            "may not read pg_stat_wal_receiver, so the timeline of a replica is unknown"
            if observation.in_recovery
            else "may not read pg_stat_replication, so the standbys of a master are unknown"
        )
        self._miss(text, f"GRANT pg_monitor TO {self._role};")

    def _miss(self, text: str, remedy: str) -> None:
        shortcoming = Shortcoming(text, remedy)
        if shortcoming not in self.shortcomings:
            self.shortcomings += (shortcoming,)
            log.warning("%s: %s; %s", self._host, text, remedy)
