"""The frozen values that travel between the layers: what one check saw, and what is served.

Nothing here can change after it was made, so any thread may keep and read it without a lock.
Moments called ``started``, ``finished`` or ``now`` are seconds of one monotonic clock of ours.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pgstatus.errors import Cause


class Role(StrEnum):
    """What a host says of itself (``pg_is_in_recovery()``)."""

    MASTER = "master"
    REPLICA = "replica"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Host:
    """A configured host: its name and port as clients shall hear them, and where it stands."""

    name: str
    port: int
    dc: str | None = None
    geo: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """What tells it from the others."""
        return self.name, self.port

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Observation:
    """A check that succeeded: one row that the host returned in one round trip."""

    in_recovery: bool
    lsn: int | None
    """Replica: replayed up to here. Master: written up to here. Bytes; None before any replay."""
    timeline: int | None
    """Master: the timeline it writes. Replica: the one it receives, or, without a receiver, that
    of its last restart point; None where it may not be read."""
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
    """What ``pg_control_checkpoint()`` returns of the last checkpoint."""

    lsn: int
    time: float
    """Unix seconds."""
    next_xid: str


@dataclass(frozen=True, slots=True)
class Position:
    """A position check that succeeded: how far a replica has replayed, and nothing else."""

    in_recovery: bool
    lsn: int | None
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that failed, or is overdue; ``message`` is for people."""

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
    """It is the host that ``/master`` names."""
    alive: bool = False
    possible_dead: bool = False
    timeline: int | None = None
    lsn: int | None = None
    lag_ms: int | None = None
    """Upper bound of how far behind the master, milliseconds; None is unknown."""
    lag_bytes: int | None = None
    sync_by_time: bool = False
    sync_by_bytes: bool = False
    same_history: bool = False
    """Its LSN can be compared with the master's."""
    history: int | None = None
    """The timeline that its LSN counts on: ``timeline``, or where that may not be read and nothing
    speaks against it, the master's."""
    checked_at: datetime | None = None
    """End of the check that all this is from, UTC."""
    seen: float | None = None
    """When the last good check began, which all the rest is from; None: nothing is believed."""
    error: str | None = None
    """Why the last check failed."""
    reason: str | None = None
    """Why it is not eligible, or not eligible where freshness is asked for."""
    excluded: bool = False
    """Never to be named, whatever is asked: it belongs to another cluster or history."""

    @property
    def in_sync(self) -> bool:
        """By time, and by bytes where the master can be asked where it ends."""
        return self.sync_by_time and (self.sync_by_bytes or self.lag_bytes is None)

    @property
    def is_live_replica(self) -> bool:
        return self.alive and self.role is Role.REPLICA and not self.excluded


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known at one moment; answers are made from it alone."""

    hosts: tuple[HostStatus, ...]
    ready: bool = False
    """Every host was asked, with or without an answer; before that no master is named."""
    masters: tuple[HostStatus, ...] = ()
    """The healthy hosts of this cluster that say they are master; two or more: split brain."""
    no_master: str | None = None
    """Why there is no master to name, in words."""
    split_brain: bool = False
    """No master is named *because* several claim to be it."""
    stale_after: float = field(default=float("inf"))
    """The moment from which this snapshot must not be served any more."""

    def names_the_same(self, other: "Snapshot") -> bool:
        """The same master as the other, or none like it."""
        mine, its = self.master, other.master
        return (mine and mine.host.address) == (its and its.host.address)

    @property
    def claims(self) -> list[str]:
        """The names of ``masters``, as ``name:port``."""
        return [str(status.host) for status in self.masters]

    def is_stale(self, now: float) -> bool:
        """It is too old to be served."""
        return now > self.stale_after

    @property
    def master(self) -> HostStatus | None:
        return next((status for status in self.hosts if status.master), None)
