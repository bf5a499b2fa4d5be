"""The answers of pg-status, as immutable values.

The fields are those of the JSON responses and have their names. A field that an older pg-status
does not send has its default.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Role = Literal["master", "replica", "unknown"]


@dataclass(frozen=True, slots=True)
class ChosenHost:
    """The selected host.

    ``lag_ms`` (milliseconds) and ``lag_bytes`` are the last measured values, None if unknown.
    ``lsn`` is the replayed position of a replica, and the written position of the master.
    ``stale``: no host is within the limits, and ``fallback="stale"`` allows this one nevertheless.
    """

    host: str
    port: int
    role: Role
    lag_ms: int | None
    lag_bytes: int | None
    lsn: str | None
    dc: str | None = None
    geo: str | None = None
    stale: bool = False


@dataclass(frozen=True, slots=True)
class HostStatus:
    """The state of one host. None means unknown, or that the host is dead.

    ``upstream`` is the ``host:port`` from which a replica streams. ``admits`` is false if the host
    refuses new sessions, for the reason ``refusal``.
    """

    host: str
    port: int
    role: Role
    alive: bool
    possible_dead: bool
    lag_ms: int | None
    lag_bytes: int | None
    lsn: str | None
    sync_by_time: bool
    sync_by_bytes: bool
    in_sync: bool
    timeline: int | None
    dc: str | None
    geo: str | None
    checked_at: datetime | None
    error: str | None
    reason: str | None
    upstream: str | None = None
    admits: bool | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The state of a watched question: all equally good hosts, the best first.

    Without hosts, ``reason`` states why there are none. ``id`` is empty if pg-status does not send
    notifications, and was asked instead.
    """

    id: str
    hosts: tuple[ChosenHost, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Hosts:
    """The state of all hosts. ``master`` is ``host:port``; without one, ``no_master`` states why.

    ``ready``: every host has been checked. ``stale``: the data is older than pg-status allows.
    """

    id: str
    hosts: tuple[HostStatus, ...]
    ready: bool
    stale: bool
    master: str | None
    no_master: str | None
