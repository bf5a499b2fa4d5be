"""What has happened lately, for people: changes, and how late each replica was.

Kept in memory, for the status page; a reload does not forget it. Safe to use from any thread.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pgstatus.core.changes import Change, Event
from pgstatus.core.snapshot import Host, Snapshot

STEP = 2
"""Seconds from one sample of the lag to the next."""
SAMPLES = 150
_MAX_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A change, and when it was seen."""

    at: datetime
    event: Event


class History:
    """The last hundred changes, and the lags of the last five minutes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_MAX_EVENTS)
        self._lags: deque[tuple[int, dict[str, int | None]]] = deque(maxlen=SAMPLES + 1)
        self._master_since: datetime | None = None

    def changed(self, before: Snapshot, events: Sequence[Event], at: datetime) -> None:
        """Remember what has changed since the snapshot ``before``."""
        with self._lock:
            # The oldest of them is told first.
            self._entries.extend(Entry(at, event) for event in events)
            for event in events:
                if event.change is Change.MASTER:
                    # The one that was there when we came has been it for we do not know how long.
                    known = before.ready and event.host is not None
                    self._master_since = at if known else None

    def sample(self, snapshot: Snapshot, now: float) -> None:
        """Note how late everybody is; of several notes within a step the last one stays."""
        lags = {str(status.host): status.lag_ms for status in snapshot.hosts}
        step = int(now / STEP)
        with self._lock:
            if self._lags and self._lags[-1][0] == step:
                self._lags.pop()
            self._lags.append((step, lags))

    @property
    def master_since(self) -> datetime | None:
        """When the present master became it; None: before we began, or there is none."""
        return self._master_since

    def entries(self) -> tuple[Entry, ...]:
        """The changes, the newest first."""
        with self._lock:
            return tuple(reversed(self._entries))

    def lags(self, host: Host, now: float) -> list[int | None]:
        """Milliseconds, a number for each step, the last one just over; None: unknown."""
        with self._lock:
            noted = {step: lags.get(str(host)) for step, lags in self._lags}
        end = int(now / STEP)
        return [noted.get(step) for step in range(end - SAMPLES, end)]
