"""What the monitor knows about the hosts between their checks. Pure: values, and what follows from
them; `tracker` defines how they change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from pgstatus.core.election import Election, SplitBrain
from pgstatus.core.lag import WalHistory
from pgstatus.core.snapshot import Failure, Host, Observation


class Look(Enum):
    """The occasion of a check."""

    ROUND = auto()
    """A round in which all hosts are checked."""
    RECHECK = auto()
    """A second check because the host appeared late; its result is final."""
    POSITION = auto()
    """A check for the replay position alone."""
    OVERDUE = auto()
    """A check that has not ended yet."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured limits; times in seconds."""

    sleep: float = 5.0
    max_fails: int = 3
    sync_max_lag_ms: int = 1000
    sync_max_lag_bytes: int = 1_000_000
    split_brain: SplitBrain = SplitBrain.NEWEST_TIMELINE
    max_staleness: float = 30.0
    """0: unlimited."""


@dataclass(frozen=True, slots=True)
class Lag:
    """A measured lag; None: unknown."""

    seconds: float | None = None
    size: int | None = None
    """Bytes."""
    before_outage: float | None = None
    """``seconds`` as measured while the master last responded."""


class Record(NamedTuple):
    """What is known about one host. (Every result replaces fields of one: a named tuple does that
    several times faster than a frozen dataclass.)
    """

    seen: Observation | None = None
    """The last successful check; None: none yet, or the host is dead, or it is too old."""
    fails: int = 0
    counted: float = -inf
    """When the last counted failure began."""
    failure: Failure | None = None
    """The last check, if it failed or is overdue."""
    overdue: bool = False
    """``failure`` is an overdue check, which may still succeed."""
    response_time: float = 0.0
    """How long its checks take, seconds: the longest of the recent ones."""
    checked: float | None = None
    checked_at: datetime | None = None
    """The time of day of the check that ``lag`` is from."""
    asked_at: datetime | None = None
    """The time of day of the last check; becomes ``checked_at`` when its lag is settled."""
    lag: Lag = Lag()  # immutable
    synced: bool = False
    """In sync when last measured, or late by less than one interval since."""
    unsettled: bool = False
    """It appeared late in its last check and should be checked again."""
    system_identifier: int | None = None
    """Kept while the host is dead, like all that follows."""
    member: bool = False
    """It has had the identifier of this cluster."""
    addresses: frozenset[str] = frozenset()
    control_timeline: int | None = None
    in_recovery_at: float | None = None
    """When the last check began that found it in recovery."""
    streams_from: str | None = None
    """The configured host that its WAL receiver streams from, ``name:port``."""
    upstream_since: float = -inf
    """When the check began that first showed this upstream."""
    follows: str | None = None
    """The master that it streams from, directly or through other replicas; kept while its receiver
    does not run."""
    unconfirmed: bool = False
    """Its master is not known until its next check: a server that it streams from, directly or
    through others, has a new upstream."""
    refuted_at: int | None = None
    """The position at which it was found to be ahead of its master: its history differs."""
    refuted_upstream: str | None = None
    """A replica with another history that it has streamed from, directly or through others."""
    watcher: str | None = None
    """At a relay: the watcher that has made the check."""
    watchers: tuple[tuple[str, str | None], ...] = ()
    """At a relay, if its watchers disagree: the error of each, None if it can reach the host."""

    @property
    def has_failed(self) -> bool:
        """The last check that ended has failed."""
        return self.failure is not None and not self.overdue

    @property
    def is_live_replica(self) -> bool:
        return self.seen is not None and self.seen.in_recovery and not self.has_failed


@dataclass(frozen=True, slots=True)
class Memory:
    """What has to survive a restart, so that a replaced master is not taken for the current one."""

    system_identifier: int | None
    newest_timeline: int
    evidence: frozenset[str]
    """The hosts that have shown this timeline."""
    master: str | None = None
    """The last elected master, ``name:port``."""
    writers: frozenset[str] = frozenset()
    """The hosts that have written to this timeline."""


class State(NamedTuple):
    """All that the monitor knows. It begins as `State.of`; results are folded in."""

    hosts: tuple[Host, ...]
    records: tuple[Record, ...]
    history: WalHistory = WalHistory()
    election: Election = Election()
    incumbent: int | None = None
    """The last elected master, of the moments at which all hosts had been checked."""
    evidence: Mapping[str, int] = MappingProxyType({})
    """The highest timeline that each host has shown; it may be known from before a restart."""
    writers: frozenset[str] = frozenset()
    """The hosts that have written to the newest timeline."""
    system_identifier: int | None = None
    ready: bool = False
    """Every host was checked, since the start or since all results had expired."""
    restored: bool = False
    """The identifier is from before that; it stands until every host was checked."""
    down_since: float | None = None
    """From this moment on the master is known to be unable to commit."""
    down: frozenset[int] = frozenset()
    """The primaries that are known to be down."""
    in_transition: bool = True
    """Not all is known: hosts were not checked yet, the master does not respond, or a replica does
    not follow its timeline yet."""
    newest_check: float = -inf
    oldest_evidence: float = inf
    """No result that is in use is older than this."""
    sources: tuple[tuple[str, str | None], ...] = ()
    """At a relay: its sources of evidence, and why each delivers none; None: it delivers."""

    @classmethod
    def of(cls, hosts: Sequence[Host]) -> "State":
        return cls(tuple(hosts), tuple(Record() for _ in hosts))

    @property
    def newest_timeline(self) -> int | None:
        return max(self.evidence.values(), default=None)

    @property
    def memory(self) -> Memory | None:
        """What to keep for the next start; None while it is not certain."""
        newest = self.newest_timeline
        if not self.ready or newest is None:
            return None
        master = None if self.incumbent is None else str(self.hosts[self.incumbent])
        evidence = frozenset(name for name, shown in self.evidence.items() if shown == newest)
        return Memory(self.system_identifier, newest, evidence, master, self.writers)

    def restore(self, memory: Memory) -> "State":
        """This first state with what was known before the restart; unchanged if of other hosts."""
        names = [str(host) for host in self.hosts]
        if not memory.evidence & set(names):
            return self
        return self._replace(
            system_identifier=memory.system_identifier,
            evidence=dict.fromkeys(memory.evidence & set(names), memory.newest_timeline),
            writers=memory.writers,
            incumbent=names.index(memory.master) if memory.master in names else None,
            restored=True,
        )

    def adopt(self, memory: Memory) -> "State":
        """This state with what another instance remembers of the same cluster.

        The newest timeline wins. What the hosts themselves show is decided afterwards.
        """
        names = [str(host) for host in self.hosts]
        evidence = dict.fromkeys(memory.evidence & set(names), memory.newest_timeline)
        known, newest = self.system_identifier, self.newest_timeline or 0
        is_foreign = known is not None and memory.system_identifier not in (None, known)
        if not evidence or is_foreign or memory.newest_timeline < newest:
            return self
        both = {**self.evidence, **evidence}
        if memory.newest_timeline == newest:
            state = self._replace(evidence=both, writers=self.writers | memory.writers)
            return self if state == self else state
        if not self.ready:
            return self.restore(memory)
        return self._replace(evidence=both, writers=memory.writers)

    def with_hosts(self, hosts: Sequence[Host]) -> "State":
        """What is known of these hosts, some of which may be new."""
        old = {host.address: index for index, host in enumerate(self.hosts)}
        kept = [old.get(host.address, -1) for host in hosts]
        return self._replace(
            hosts=tuple(hosts),
            records=tuple(Record() if index < 0 else self.records[index] for index in kept),
            election=Election(kept.index(self.master) if self.master in kept else None),
            incumbent=kept.index(self.incumbent) if self.incumbent in kept else None,
            down=frozenset(),
            evidence={
                name: self.evidence[name] for name in map(str, hosts) if name in self.evidence
            },
        )

    def among(self, hosts: Sequence[Host]) -> "State":
        """What remains valid when these are the hosts from now on.

        All of them have to be checked again: this state may be older than a failover.
        """
        if not {host.address for host in hosts} & {host.address for host in self.hosts}:
            return State.of(hosts)
        state = self.with_hosts(hosts)
        return state._replace(
            records=tuple(
                record._replace(checked=None, watcher=None, watchers=()) for record in state.records
            ),
            ready=False,
            restored=self.restored or self.ready,
            in_transition=True,
            newest_check=-inf,
            sources=(),
        )

    def reported_by(
        self, index: int, watcher: str | None, watchers: tuple[tuple[str, str | None], ...]
    ) -> "State":
        """The state of a relay with the watchers that have reported host ``index``."""
        record = self.records[index]
        if (record.watcher, record.watchers) == (watcher, watchers):
            return self
        record = record._replace(watcher=watcher, watchers=watchers)
        return self._replace(records=(*self.records[:index], record, *self.records[index + 1 :]))

    def received_from(self, sources: tuple[tuple[str, str | None], ...]) -> "State":
        """The state of a relay with the condition of its sources."""
        return self if sources == self.sources else self._replace(sources=sources)

    @property
    def master(self) -> int | None:
        """The elected master."""
        return self.election.winner

    @property
    def has_healthy_master(self) -> bool:
        return self.master is not None and self.records[self.master].failure is None

    @property
    def current_timeline(self) -> int | None:
        """The master's timeline; without a master the newest one."""
        master = None if self.master is None else self.records[self.master].seen
        return master.timeline if master else self.newest_timeline

    @property
    def unsettled(self) -> tuple[int, ...]:
        """The hosts to check again."""
        return tuple(i for i, record in enumerate(self.records) if record.unsettled)

    def is_foreign(self, record: Record) -> bool:
        """The host belongs to another cluster."""
        known = self.system_identifier
        return known is not None and record.system_identifier not in (None, known)


def contradiction(state: State, record: Record) -> str | None:
    """Why the LSN of this replica is not comparable with the master's; None: it is comparable."""
    seen = record.seen
    if seen is None:
        return "no valid observation"
    current = state.current_timeline
    if seen.timeline is not None and current is not None and seen.timeline != current:
        whose = "newest timeline" if state.master is None else "master's timeline"
        return f"on timeline {seen.timeline} ({whose}: {current})"
    if record.refuted_at is not None:
        return "ahead of the master: it has replayed WAL that the master has not written"
    if record.refuted_upstream is not None:
        return f"follows {record.refuted_upstream}, which is ahead of the master"
    return _unproven(state, record, seen)


def _unproven(state: State, record: Record, seen: Observation) -> str | None:
    """Why it is not known to follow the master; a single master needs no proof."""
    writer = state.history.writer
    if record.follows is not None and writer is not None:
        return None if record.follows == writer else f"follows {record.follows}, not the master"
    if len(state.writers) > 1:
        servers = " and ".join(sorted(state.writers))
        return f"upstream unknown, and {servers} have written to timeline {state.newest_timeline}"
    if seen.timeline is None and len(state.election.candidates) > 1:
        return "timeline not readable (pg_monitor is missing), and there are several masters"
    return None
