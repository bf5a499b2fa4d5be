"""Which changes from one snapshot to the next are reported. Pure: snapshots in, events out; the
monitor logs them.

A snapshot that is not ready shows nothing of the cluster. An interruption of the checks is reported
as such, and what has changed meanwhile when it has ended.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress
from math import isfinite
from operator import is_not

from pgstatus.core.election import split_brain
from pgstatus.core.snapshot import HostStatus, Role, Snapshot
from pgstatus.core.units import duration


class Change(StrEnum):
    """The kinds of events."""

    MASTER = "master"
    READY = "ready"
    """The checks of all hosts were interrupted, or the interruption has ended."""
    ROLE = "role"
    HEALTH = "health"
    SYNC = "sync"
    SPLIT_BRAIN = "split_brain"
    WATCHER = "watcher"
    """Of a relay: ``host`` is the source of its evidence."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change; ``text`` is a log message, ``host`` is None if it concerns the whole cluster."""

    change: Change
    host: str | None
    text: str
    level: int = logging.INFO
    timeline: int | None = None
    lag_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """One change of what is served, as the monitor publishes it."""

    before: Snapshot
    after: Snapshot
    events: tuple[Event, ...]
    """What is reported of it; may be empty."""


class Reporter:
    """Reports each change once, compared with the last snapshot that was ready."""

    def __init__(self, known: Snapshot) -> None:
        """``known``: what was reported before."""
        self._known = known
        self._was_ready = False
        """The checks that this object reports of have been complete once."""
        self._is_interrupted = False

    def events(self, after: Snapshot) -> tuple[Event, ...]:
        """What is to be reported of this snapshot."""
        before = self._known
        if before.ready and not after.ready:
            if self._is_interrupted or not self._was_ready:
                return ()
            self._is_interrupted = True
            text = f"not ready: {after.no_master}; requests are answered with 503"
            return (Event(Change.READY, None, text, logging.WARNING),)
        ended = (_ready_again(before, after),) if self._is_interrupted else ()
        self._known, self._was_ready, self._is_interrupted = after, after.ready, False
        return (*ended, *events(before, after))


def _ready_again(before: Snapshot, after: Snapshot) -> Event:
    seconds = after.stale_after - before.stale_after
    took = f" for {duration(seconds)}" if isfinite(seconds) else ""
    return Event(Change.READY, None, f"ready again: the checks were interrupted{took}")


def events(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    """All changes, that of the master first. The state of a new host was unknown before."""
    yield from _master(before, after)
    yield from _split_brain(before, after)
    old, new = before.hosts, after.hosts
    if len(old) == len(new):
        # Hosts for which nothing has changed are the same objects.
        changed = list(compress(range(len(new)), map(is_not, new, old)))
        if all(old[index].host == new[index].host for index in changed):
            for index in changed:
                yield from _host(old[index], new[index])
            return
    known = {str(status.host): status for status in old}
    for status in new:
        yield from _host(known.get(str(status.host), HostStatus(status.host)), status)


def _master(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    old, new, last = before.master, after.master, before.last_master
    if new is not None and (old is None or old.host != new.host):
        again = before.ready and last == new.host
        was = f", previously {last}" if last not in (None, new.host) else ""
        what = "the master again" if again else "now the master"
        text = f"{new.host} is {what} (timeline {new.timeline}{was})"
        yield Event(Change.MASTER, str(new.host), text, timeline=new.timeline)
    elif new is None and after.ready and (after.no_master != before.no_master or old is not None):
        yield Event(Change.MASTER, None, f"no master: {after.no_master}", logging.WARNING)


def _split_brain(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    if len(after.masters) > 1:
        if _claims(before) != _claims(after):
            yield Event(Change.SPLIT_BRAIN, None, split_brain(_claims(after)), logging.ERROR)
    elif len(before.masters) > 1:
        hosts = {status.host: status for status in after.hosts}
        former = [
            _after_split_brain(one, hosts.get(one.host))
            for one in before.masters
            if one.host not in {still.host for still in after.masters}
        ]
        texts = ", ".join(text for text, _ in former)
        if all(is_certain for _, is_certain in former):
            yield Event(Change.SPLIT_BRAIN, None, f"split brain ended: {texts}")
        else:
            text = f"the split brain is not observed any more: {texts}"
            yield Event(Change.SPLIT_BRAIN, None, text, logging.WARNING)


def _after_split_brain(before: HostStatus, after: HostStatus | None) -> tuple[str, bool]:
    """What a former primary is now, and whether it is certain that it does not accept writes as a
    server of this cluster.
    """
    if after is None:
        return f"{before.host} is not monitored any more", False
    if after.excluded:
        return f"{before.host} belongs to a different cluster", True
    if after.role is Role.REPLICA and not after.possible_dead:
        return f"{before.host} is a replica", True
    error = f" ({after.error})" if after.error else ""
    return f"{before.host} is {health(after)}{error}", after.down


def _claims(snapshot: Snapshot) -> list[tuple[str, int | None]]:
    return [(str(s.host), s.timeline) for s in snapshot.masters]


def _host(old: HostStatus, new: HostStatus) -> Iterator[Event]:
    name = str(new.host)
    if health(old) != health(new) or (old.error is None) != (new.error is None):
        bad = new.error is not None
        detail = f": {new.error}" if new.error else ""
        yield Event(
            Change.HEALTH,
            name,
            f"{name} is {health(new)}{detail}",
            logging.WARNING if bad else logging.INFO,
        )
    refused, refuses = old.admits is False, new.admits is False
    if new.alive and refuses != refused and new.admits is not None:
        yield _admission(name, new)
    if new.role is not old.role and new.role is not Role.UNKNOWN:
        yield Event(Change.ROLE, name, f"{name} is a {new.role}", timeline=new.timeline)
    if new.excluded and not old.excluded:
        yield Event(Change.ROLE, name, f"{name}: {new.reason}", logging.ERROR)
    if old.role is new.role is Role.REPLICA and new.alive and old.alive:
        yield from _sync(old, new, name)


def _admission(name: str, new: HostStatus) -> Event:
    if new.admits is False:
        text = f"{name} does not accept new sessions: {new.refusal}"
        return Event(Change.HEALTH, name, text, logging.WARNING)
    return Event(Change.HEALTH, name, f"{name} accepts new sessions")


def _sync(old: HostStatus, new: HostStatus, name: str) -> Iterator[Event]:
    if new.reason and old.same_history and not new.same_history:
        yield Event(
            Change.SYNC, name, f"{name}: {new.reason}", logging.WARNING, timeline=new.timeline
        )
        return
    was, sync = _in_sync_by_time(old), _in_sync_by_time(new)
    if was != sync:
        lag = "unknown" if new.lag_ms is None else f"{new.lag_ms} ms"
        text = f"{name} is {'in sync' if sync else 'not in sync'} by time (lag {lag})"
        yield Event(Change.SYNC, name, text, lag_ms=new.lag_ms)
    if old.sync_by_bytes != new.sync_by_bytes:
        lag = "unknown" if new.lag_bytes is None else f"{new.lag_bytes} bytes"
        is_synced = "in sync" if new.sync_by_bytes else "not in sync"
        text = f"{name} is {is_synced} by bytes (lag {lag})"
        yield Event(Change.SYNC, name, text, lag_ms=new.lag_ms)


def _in_sync_by_time(status: HostStatus) -> bool:
    return status.sync_by_time or status.tolerated


def health(status: HostStatus) -> str:
    """The health of a host in one or two words."""
    if not status.alive:
        return "dead" if status.error else "unknown"
    if status.down:
        return "down"
    return "possibly dead" if status.possible_dead else "alive"
