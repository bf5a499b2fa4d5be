"""The recent history for the status page: changes of the cluster, and the lag of each replica.

It is kept in memory and survives a reload. Safe to use from any thread.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pgstatus.core.changes import Change, Event
from pgstatus.core.snapshot import Host, Snapshot

STEP = 2
"""Seconds between two samples of the lag."""
SAMPLES = 150
_MAX_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A change and the time at which it was noticed."""

    at: datetime
    event: Event
    former: str | None = None
    """Of a new or lost master: the last host before that was the master, possibly the same one."""


class History:
    """The last 100 changes, and the lag of the last five minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_MAX_EVENTS)
        self._lags: deque[tuple[int, dict[str, int | None]]] = deque(maxlen=SAMPLES + 1)
        self._master_since: datetime | None = None
        self._former_master: str | None = None
        self._no_master_since: datetime | None = None
        self._known = Snapshot(())
        """The last snapshot before a change that was ready."""

    def changed(self, before: Snapshot, events: Sequence[Event], at: datetime) -> None:
        """Store the changes since the snapshot ``before``, in their order."""
        last = None if before.last_master is None else str(before.last_master)
        with self._lock:
            if before.ready:
                self._known = before
            for event in events:
                is_master = event.change is Change.MASTER
                if is_master:
                    self._master_changed(event.host, last, at)
                self._entries.append(Entry(at, event, last if is_master else None))

    def _master_changed(self, host: str | None, last: str | None, at: datetime) -> None:
        """``host`` is the master, or there is none; ``last`` was the last one before."""
        before = self._known.master
        if host is None:
            self._master_since = None
            if before is not None:  # otherwise only the reason is another one
                self._no_master_since = at
            return
        if last not in (None, host):
            self._former_master = last
        if before is None or str(before.host) != host:
            # How long the first master has had this role is not known.
            self._master_since = at if self._known.ready else None
        self._no_master_since = None

    def sample(self, snapshot: Snapshot, now: float) -> None:
        """Store the lag of all replicas. Of several samples within a step the largest is kept."""
        lags = {str(status.host): status.lag_ms for status in snapshot.hosts}
        step = int(now / STEP)
        with self._lock:
            if self._lags and self._lags[-1][0] == step:
                before = self._lags.pop()[1]
                lags = {host: _larger(lag, before.get(host)) for host, lag in lags.items()}
            self._lags.append((step, lags))

    @property
    def master_since(self) -> datetime | None:
        """When the current master took this role; None: before the start, or there is no master."""
        return self._master_since

    @property
    def no_master_since(self) -> datetime | None:
        """When the last master was lost; None: before the start, or there is a master."""
        return self._no_master_since

    @property
    def former_master(self) -> str | None:
        """The host that was the master before the last failover."""
        return self._former_master

    def entries(self) -> tuple[Entry, ...]:
        """The changes, oldest first."""
        with self._lock:
            return tuple(self._entries)

    def lags(self, host: Host, now: float) -> list[int | None]:
        """Lag in milliseconds for each completed step, oldest first; None: unknown."""
        with self._lock:
            known = {step: lags.get(str(host)) for step, lags in self._lags}
        end = int(now / STEP)
        return [known.get(step) for step in range(end - SAMPLES, end)]


def _larger(one: int | None, other: int | None) -> int | None:
    known = [lag for lag in (one, other) if lag is not None]
    return max(known) if known else None
