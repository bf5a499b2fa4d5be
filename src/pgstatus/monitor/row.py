"""How the row of `facts.select` is read. A host may send anything: every value is checked."""

import re
from collections.abc import Collection
from ipaddress import ip_address

from pgstatus.core.snapshot import Checkpoint, Observation, Position, Standby
from pgstatus.lsn import parse_lsn
from pgstatus.monitor.facts import (
    ADDRESS,
    AURORA,
    CONTROL,
    MAX_STANDBYS,
    RECEIVED,
    RECEIVER,
    RECOVERY,
    REPLAY_TIME,
    REPLAYED,
    ROLE,
    STANDBYS,
    SYSTEM,
    UPSTREAM,
    WAL_FILE,
    WRITTEN,
    Fact,
)
from pgstatus.monitor.session import Values

_YEAR_10000 = 253_402_300_800


def read(
    values: Values, facts: Collection[Fact], started: float, finished: float
) -> tuple[Observation, bool]:
    """What the row contains; ValueError if it is not valid.

    True: the role may not read the statistics of replication.
    """
    expected = sum(len(fact.columns) for fact in facts)
    if len(values) != expected:
        raise ValueError(f"expected {expected} columns, got {len(values)}")
    remaining = iter(values)
    row = {fact: tuple(next(remaining) for _ in fact.columns) for fact in facts}

    def columns(fact: Fact) -> Values:
        return row.get(fact) or (None,) * len(fact.columns)

    in_recovery, host_time = _boolean(row[ROLE][0]), _time(row[ROLE][1])
    if host_time is None:
        raise ValueError("expected a time, got no value")
    receiving, received_timeline, upstream_lsn = columns(RECEIVER)
    control_timeline, *checkpoint = columns(CONTROL)
    is_hidden = bool(receiving) and received_timeline is None
    standbys, standbys_hidden = _standbys(columns(STANDBYS)[0], known=STANDBYS in row)
    lsn = _lsn(columns(REPLAYED if in_recovery else WRITTEN)[0])
    if lsn is None:
        lsn = _integer(columns(AURORA)[0], 0, 2**63 - 1)
    if in_recovery and (receiving or RECEIVER not in row):
        # Hidden details leave the timeline unknown. That of the last restartpoint may be older than
        # the one that is received, so it does not take its place.
        timeline = _timeline(received_timeline)
    elif in_recovery:
        timelines = _timeline(columns(RECOVERY)[0]), _timeline(control_timeline)
        timeline = max((t for t in timelines if t is not None), default=None)
    else:
        timeline = _timeline_of_file(columns(WAL_FILE)[0], known=WAL_FILE in row)
    return Observation(
        in_recovery=in_recovery,
        lsn=lsn,
        timeline=timeline,
        receiving=receiving is not None and _boolean(receiving),
        system_identifier=_integer(columns(SYSTEM)[0], -(2**63), 2**63 - 1),
        host_time=host_time,
        replayed_at=_time(columns(REPLAY_TIME)[0]),
        addresses=_addresses(columns(ADDRESS)[0]),
        upstream=_upstream(*columns(UPSTREAM)),
        received_lsn=_lsn(columns(RECEIVED)[0]),
        upstream_lsn=_lsn(upstream_lsn),
        standbys=standbys,
        control_timeline=_timeline(control_timeline),
        checkpoint=_checkpoint(*checkpoint),
        started=started,
        finished=finished,
    ), is_hidden or standbys_hidden


def read_position(values: Values, started: float, finished: float) -> Position:
    """What the row of `facts.POSITION` contains; ValueError if it is not valid."""
    if len(values) != 2:
        raise ValueError(f"expected 2 columns, got {len(values)}")
    return Position(_boolean(values[0]), _lsn(values[1]), started, finished)


def _text(value: bytes, longest: int = 300) -> str:
    if len(value) > longest:
        raise ValueError(f"expected at most {longest} bytes, got {len(value)}")
    return value.decode()


def _boolean(value: bytes | None) -> bool:
    if value not in {b"t", b"f"}:
        raise ValueError(f"expected t or f, got {_shown(value)}")
    return value == b"t"


def _integer(value: bytes | None, lowest: int, highest: int) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(rb"-?[0-9]{1,20}", value) or not lowest <= int(value) <= highest:
        raise ValueError(f"expected an integer from {lowest} to {highest}, got {_shown(value)}")
    return int(value)


def _time(value: bytes | None) -> float | None:
    """Microseconds since 1970 → seconds."""
    microseconds = _integer(value, 0, _YEAR_10000 * 1_000_000)
    return None if microseconds is None else microseconds / 1_000_000


def _lsn(value: bytes | None) -> int | None:
    return None if value is None else parse_lsn(_text(value))


def _timeline(value: bytes | None) -> int | None:
    """A timeline; 0, which is stored where there is none, is None."""
    return _integer(value, 0, 2**32 - 1) or None


def _timeline_of_file(value: bytes | None, *, known: bool) -> int | None:
    if not known:
        return None
    if value is None or not re.fullmatch(rb"[0-9A-F]{24}", value) or not int(value[:8], 16):
        raise ValueError(f"expected the name of a WAL file, got {_shown(value)}")
    return int(value[:8], 16)


def _addresses(value: bytes | None) -> frozenset[str]:
    return frozenset([str(ip_address(_text(value)))] if value else [])


def _upstream(host: bytes | None, port: bytes | None) -> tuple[str, int] | None:
    number = _integer(port, 0, 65535)
    return (_text(host), number) if host and number else None


def _checkpoint(lsn: bytes | None, time: bytes | None, next_xid: bytes | None) -> Checkpoint | None:
    position, seconds = _lsn(lsn), _time(time)
    if position is None or seconds is None or next_xid is None:
        return None
    return Checkpoint(position, seconds, _text(next_xid, 50))


def _standbys(value: bytes | None, *, known: bool) -> tuple[tuple[Standby, ...] | None, bool]:
    """The standbys; True: their details are hidden from the role."""
    if not known:
        return None, False
    return _parse_standbys(value) if value else ((), False)


def _parse_standbys(value: bytes) -> tuple[tuple[Standby, ...] | None, bool]:
    rows = [line.split("\t") for line in value.decode(errors="replace").split("\n")]
    if len(rows) > MAX_STANDBYS or any(len(fields) != 4 for fields in rows):
        raise ValueError("expected the rows of pg_stat_replication")
    if any(not state for _, _, state, _ in rows):
        return None, True
    return tuple(Standby(a or None, name, state, sync) for a, name, state, sync in rows), False


def _shown(value: bytes | None) -> str:
    return "no value" if value is None else repr(value[:50].decode(errors="replace"))
