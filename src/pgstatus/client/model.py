"""What pg-status answers, as frozen values, and the two notations that come with them.

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
    timeline: int | None
    dc: str | None
    geo: str | None
    checked_at: datetime | None
    error: str | None
    reason: str | None


def parse_lsn(lsn: str) -> int:
    """PostgreSQL's ``HEX/HEX`` as the byte position that it is. ValueError: it is none."""
    high, _, low = lsn.partition("/")
    if not (0 < len(high) <= 8 and 0 < len(low) <= 8):
        raise ValueError(f"an LSN is written as 16/B374D848, not {lsn!r}")
    return int(high, 16) << 32 | int(low, 16)


def parse_position(position: str) -> tuple[int | None, int]:
    """``HEX/HEX`` or ``TIMELINE:HEX/HEX`` as (timeline, bytes). ValueError: neither."""
    timeline, colon, lsn = position.rpartition(":")
    return int(timeline) if colon else None, parse_lsn(lsn)
