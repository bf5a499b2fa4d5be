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
        self._last_master: str | None = None
        """The present master; without one, the last."""
        self._former_master: str | None = None
        self._had_master = False
        self._no_master_since: datetime | None = None

    def changed(self, before: Snapshot, events: Sequence[Event], at: datetime) -> None:
        """Store the changes since the snapshot ``before``, in their order."""
        with self._lock:
            if before.master is not None:
                self._last_master, self._had_master = str(before.master.host), True
            for event in events:
                former = None
                if event.change is Change.MASTER:
                    former = self._new_master(event.host)
                    has_remained = self._had_master and event.host == former
                    if not has_remained:
                        # How long the first master has had this role is not known.
                        is_known = before.ready or former is not None
                        self._master_since = at if is_known and event.host is not None else None
                    if event.host is not None:
                        self._no_master_since = None
                    elif self._had_master:  # otherwise only the reason is another one
                        self._no_master_since = at
                    self._had_master = event.host is not None
                self._entries.append(Entry(at, event, former))

    def _new_master(self, host: str | None) -> str | None:
        """``host`` is the master, or there is none; returns the last master before ``host``."""
        former = self._last_master
        if host is not None:
            if former is not None and host != former:
                self._former_master = former
            self._last_master = host
        return former

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
    def last_master(self) -> str | None:
        """The present master, or the last one; None: none is known."""
        return self._last_master

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
