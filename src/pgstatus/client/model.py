"""What pg-status answers, as frozen values.

The names are those of the JSON, so its documentation is the documentation of these.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Role = Literal["master", "replica", "unknown"]


@dataclass(frozen=True, slots=True)
class ChosenHost:
    """The host that fits a question.

    ``lag_ms`` (milliseconds) and ``lag_bytes`` are as last measured, None where not known; ``lsn``
    is a replica's replayed and a master's written position.
    """

    host: str
    port: int
    role: Role
    lag_ms: int | None
    lag_bytes: int | None
    lsn: str | None


@dataclass(frozen=True, slots=True)
class HostStatus:
    """All that pg-status knows of one host. None: not known, or the host is dead."""

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
