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


class History:
    """The last 100 changes, and the lag of the last five minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_MAX_EVENTS)
        self._lags: deque[tuple[int, dict[str, int | None]]] = deque(maxlen=SAMPLES + 1)
        self._master_since: datetime | None = None

    def changed(self, before: Snapshot, events: Sequence[Event], at: datetime) -> None:
        """Store the changes since the snapshot ``before``, in their order."""
        with self._lock:
            self._entries.extend(Entry(at, event) for event in events)
            for event in events:
                if event.change is Change.MASTER:
                    # How long the first master has had this role is not known.
                    known = before.ready and event.host is not None
                    self._master_since = at if known else None

    def sample(self, snapshot: Snapshot, now: float) -> None:
        """Store the lag of all replicas. Of several samples within a step the last one is kept."""
        lags = {str(status.host): status.lag_ms for status in snapshot.hosts}
        step = int(now / STEP)
        with self._lock:
            if self._lags and self._lags[-1][0] == step:
                self._lags.pop()
            self._lags.append((step, lags))

    @property
    def master_since(self) -> datetime | None:
        """When the current master took this role; None: before the start, or there is no master."""
        return self._master_since

    def entries(self) -> tuple[Entry, ...]:
        """The changes, newest first."""
        with self._lock:
            return tuple(reversed(self._entries))

    def lags(self, host: Host, now: float) -> list[int | None]:
        """Lag in milliseconds for each completed step, oldest first; None: unknown."""
        with self._lock:
            known = {step: lags.get(str(host)) for step, lags in self._lags}
        end = int(now / STEP)
        return [known.get(step) for step in range(end - SAMPLES, end)]
