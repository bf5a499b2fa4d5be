"""The immutable values that pass between the layers: the result of a check, and what is served.

Any thread may keep and read them without a lock. ``started``, ``finished`` and ``now`` are seconds
of one monotonic clock of this process.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from pgstatus.errors import Cause


class Role(StrEnum):
    """The role of a host (``pg_is_in_recovery()``)."""

    MASTER = "master"
    REPLICA = "replica"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Host:
    """A configured host: name and port as reported to clients, and its location."""

    name: str
    port: int
    dc: str | None = None
    geo: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Its identity among the configured hosts."""
        return self.name, self.port

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a successful check: one row that the host returned in one round trip."""

    in_recovery: bool
    lsn: int | None
    """Replica: replay position. Master: write position. Bytes; None: nothing replayed yet."""
    timeline: int | None
    """Master: the timeline that it writes. Replica: the timeline that it receives; without a WAL
    receiver, that of its last restartpoint; None: not readable."""
    receiving: bool
    """Replica: its WAL receiver is running."""
    system_identifier: int | None
    host_time: float
    """The host's own clock, Unix seconds."""
    replayed_at: float | None
    """Commit time of the last replayed transaction by its master's clock, Unix seconds."""
    started: float
    finished: float
    addresses: frozenset[str] = frozenset()
    """The IP addresses of this host: of the connection, and those its name resolves to."""
    upstream: tuple[str, int] | None = None
    """Replica: the server that its WAL receiver streams from (``pg_stat_wal_receiver.sender_host``
    and ``sender_port``); None if unknown or not streaming."""
    received_lsn: int | None = None
    """Replica: WAL received and flushed up to here (``flushed_lsn``, or
    ``pg_last_wal_receive_lsn()``)."""
    upstream_lsn: int | None = None
    """Replica: the last position that its upstream reported (``latest_end_lsn``)."""
    standbys: "tuple[Standby, ...] | None" = None
    """The rows of ``pg_stat_replication``; None if they may not be read."""
    control_timeline: int | None = None
    """Timeline of the last checkpoint or restartpoint in the control file."""
    checkpoint: "Checkpoint | None" = None
    """The last checkpoint; of a replica, the checkpoint of its master that it restarted from."""
    admits: bool | None = None
    """New sessions are accepted; None: not known (the kept connection is in use)."""
    refusal: str | None = None
    """Why new sessions are not accepted."""
    uncertainty: float = 0.0
    """At a relay: by so many seconds the check may have begun later and ended earlier."""

    @property
    def role(self) -> Role:
        return Role.REPLICA if self.in_recovery else Role.MASTER


@dataclass(frozen=True, slots=True)
class Standby:
    """A row of ``pg_stat_replication``."""

    address: str | None
    """``client_addr``; None: connected through a Unix socket."""
    name: str
    """``application_name``."""
    state: str
    sync_state: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The last checkpoint, from ``pg_control_checkpoint()``."""

    lsn: int
    time: float
    """Unix seconds."""
    next_xid: str


@dataclass(frozen=True, slots=True)
class Position:
    """The result of a successful position check: the replay position of a replica, nothing else."""

    in_recovery: bool
    lsn: int | None
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that failed, or is overdue; ``message`` is readable text."""

    cause: Cause
    message: str
    started: float
    finished: float
    down: bool = False
    """The server is not running: its address refused the connection, or it reported a shutdown or
    start-up (SQLSTATE 57P03, 57P01)."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host as it is served."""

    host: Host
    role: Role = Role.UNKNOWN
    master: bool = False
    """The elected master, the answer of ``/master``."""
    alive: bool = False
    possible_dead: bool = False
    down: bool = False
    """A primary that is known to be down: it cannot commit anything. Its connections are refused
    and no live replica streams from it."""
    timeline: int | None = None
    lsn: int | None = None
    lag_ms: int | None = None
    """Upper bound of the time lag, milliseconds; None: unknown."""
    lag_bytes: int | None = None
    sync_by_time: bool = False
    sync_by_bytes: bool = False
    tolerated: bool = False
    """Not in sync, but by no more than the interval between two checks may explain, and in sync
    before. Events and the ``on_change`` command treat it as in sync; requests do not."""
    same_history: bool = False
    """Its LSN is comparable with the master's."""
    history: int | None = None
    """The timeline that its LSN refers to: ``timeline``; if that is not readable and nothing
    contradicts it, the master's."""
    upstream: str | None = None
    """The server that its WAL receiver streams from, ``host:port``."""
    admits: bool | None = None
    """New sessions are accepted; None: unknown."""
    refusal: str | None = None
    """Why new sessions are not accepted."""
    checked_at: datetime | None = None
    """End of the check that these values are from, UTC."""
    seen: float | None = None
    """When the last successful check began; None: no valid observation."""
    error: str | None = None
    """Why the last check failed."""
    reason: str | None = None
    """Why it is not eligible, or not eligible for questions with limits."""
    excluded: bool = False
    """Never part of an answer: it belongs to another cluster."""
    watcher: str | None = None
    """At a relay: the watcher that has made the check."""
    watchers: tuple[tuple[str, str | None], ...] = ()
    """At a relay, if its watchers disagree: the error of each, None if it can reach the host."""

    @property
    def in_sync(self) -> bool:
        """By time, and by bytes if the byte lag is known."""
        return self.sync_by_time and (self.sync_by_bytes or self.lag_bytes is None)

    @property
    def is_live_replica(self) -> bool:
        return self.alive and self.role is Role.REPLICA and not self.excluded


@dataclass(frozen=True)
class Snapshot:
    """All that is known at one moment; responses depend on it alone."""

    hosts: tuple[HostStatus, ...]
    ready: bool = False
    """Every host was checked, successfully or not; before that no master is reported."""
    masters: tuple[HostStatus, ...] = ()
    """The healthy hosts of this cluster that are not in recovery; two or more: split brain."""
    no_master: str | None = None
    """Why no master is reported; while it is not ready, why it is not."""
    last_master: Host | None = None
    """The master; while there is none, the last one."""
    split_brain: bool = False
    """No master is reported *because* several servers are not in recovery."""
    sources: tuple[tuple[str, str | None], ...] = ()
    """At a relay: its sources of evidence, and why each delivers none; None: it delivers."""
    stale_after: float = field(default=float("inf"))
    """The moment from which this snapshot must not be served any more."""
    basis: object = field(default=None, repr=False, compare=False)
    """What `view` created it from, so that the next snapshot can reuse unchanged parts."""

    def names_the_same(self, other: "Snapshot") -> bool:
        """Both report the same master, or none."""
        mine, its = self.master, other.master
        return (mine and mine.host.address) == (its and its.host.address)

    @property
    def claims(self) -> list[str]:
        """The names of ``masters``, as ``name:port``."""
        return [str(status.host) for status in self.masters]

    def is_stale(self, now: float) -> bool:
        """It is too old to be served."""
        return now > self.stale_after

    def unusable(self, now: float) -> str | None:
        """Why questions are not answered from it; None: they are."""
        if not self.ready:
            return f"not ready: {self.no_master}"
        if self.is_stale(now):
            return "the last checks of the hosts are too old"
        return None

    @cached_property
    def master(self) -> HostStatus | None:
        return next((status for status in self.hosts if status.master), None)
