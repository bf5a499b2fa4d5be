"""What is worth telling about the step from one snapshot to the next. Pure: two snapshots in,
events out; the monitor logs them.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pgstatus.core.election import split_brain
from pgstatus.core.snapshot import HostStatus, Role, Snapshot


class Change(StrEnum):
    """The kinds of events."""

    MASTER = "master"
    ROLE = "role"
    HEALTH = "health"
    SYNC = "sync"
    SPLIT_BRAIN = "split_brain"


@dataclass(frozen=True, slots=True)
class Event:
    """One change; ``text`` is a sentence for the log, ``host`` None where it is about them all."""

    change: Change
    host: str | None
    text: str
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Update:
    """One change of what is served, as the monitor publishes it."""

    before: Snapshot
    after: Snapshot
    events: tuple[Event, ...]
    """What is worth reporting of it; may be empty."""


def events(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    """All that changed, the master first. A host that was not there before was unknown."""
    yield from _master(before, after)
    known = {str(status.host): status for status in before.hosts}
    for new in after.hosts:
        yield from _host(known.get(str(new.host), HostStatus(new.host)), new)


def _master(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    old, new = before.master, after.master
    if new is not None and (old is None or old.host != new.host):
        was = f", before it was {old.host}" if old else ""
        yield Event(
            Change.MASTER, str(new.host), f"master is {new.host} (timeline {new.timeline}{was})"
        )
    elif new is None and after.ready and (after.no_master != before.no_master or old is not None):
        yield Event(Change.MASTER, None, f"no master: {after.no_master}", logging.WARNING)
    if len(after.masters) > 1 and _claims(before) != _claims(after):
        yield Event(Change.SPLIT_BRAIN, None, split_brain(_claims(after)), logging.ERROR)
    elif len(before.masters) > 1 and len(after.masters) <= 1:
        yield Event(Change.SPLIT_BRAIN, None, "split brain is over")


def _claims(snapshot: Snapshot) -> list[tuple[str, int | None]]:
    return [(str(s.host), s.timeline) for s in snapshot.masters]


def _host(old: HostStatus, new: HostStatus) -> Iterator[Event]:
    name = str(new.host)
    if _health(old) != _health(new) or (old.error is None) != (new.error is None):
        bad = new.error is not None
        detail = f": {new.error}" if new.error else ""
        yield Event(
            Change.HEALTH,
            name,
            f"{name} is {_health(new)}{detail}",
            logging.WARNING if bad else logging.INFO,
        )
    if new.role is not old.role and new.role is not Role.UNKNOWN:
        yield Event(Change.ROLE, name, f"{name} says it is a {new.role}")
    if new.excluded and not old.excluded:
        yield Event(Change.ROLE, name, f"{name} {new.reason}", logging.ERROR)
    if old.role is new.role is Role.REPLICA and new.alive:
        yield from _sync(old, new, name)


def _sync(old: HostStatus, new: HostStatus, name: str) -> Iterator[Event]:
    if new.reason and old.same_history and not new.same_history:
        yield Event(Change.SYNC, name, f"{name} {new.reason}", logging.WARNING)
        return
    for by, was, sync, lag, unit in (
        ("time", old.sync_by_time, new.sync_by_time, new.lag_ms, "ms"),
        ("bytes", old.sync_by_bytes, new.sync_by_bytes, new.lag_bytes, "bytes"),
    ):
        if was != sync:
            word = "in sync" if sync else "late" if lag is not None else "perhaps late"
            size = "unknown" if lag is None else f"{lag} {unit}"
            yield Event(Change.SYNC, name, f"{name} is {word} by {by} (lag {size})")


def _health(status: HostStatus) -> str:
    if not status.alive:
        return "dead" if status.error else "unknown"
    return "possibly dead" if status.possible_dead else "alive"
