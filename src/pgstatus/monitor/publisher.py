"""Turns states into snapshots, and publishes those that differ from the last one."""

import logging
from typing import Protocol

from pgstatus.core.changes import Event, Reporter, Update
from pgstatus.core.damper import Damper
from pgstatus.core.snapshot import Failure, Host, Observation, Snapshot
from pgstatus.core.state import Rules, State
from pgstatus.core.view import view
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.waiters import Waiters

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Receives what the monitor publishes; called in the monitoring thread."""

    def publish(self, update: Update) -> None:
        """The snapshot changed; `Latest` already holds the new one."""

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        """A check ended after ``seconds``, name resolution and login included."""


class Publisher:
    """Publishes one update per change: to `Latest`, to the waiting requests, to the log, to the
    sink, in this order.
    """

    def __init__(
        self,
        state: State,
        rules: Rules,
        latest: Latest,
        waiters: Waiters,
        sink: Sink,
        *,
        before: State | None = None,
        quiet: bool = False,
    ) -> None:
        """``before``: the state whose changes were reported; ``quiet``: changes are not logged."""
        self._quiet = quiet
        self._rules = rules
        self._latest = latest
        self._waiters = waiters
        self._sink = sink
        self._damper = Damper()
        self._considered: State | None = state
        """The state that was published, or found not to be worth it."""
        self.snapshot: Snapshot = view(state, rules)
        """The last one that was published."""
        self._reporter = Reporter(self.snapshot if before is None else view(before, rules))
        latest.publish(self.snapshot)

    def reconsider(self) -> None:
        """A position that no request waited for may be awaited now."""
        self._considered = None

    def publish(self, state: State, now: float, *, position_only: bool) -> bool:
        """Publish the state unless it was; True: there was an update.

        ``position_only``: nothing but positions changed since the last update.
        """
        if state is self._considered:
            return False
        self._considered = state
        after = view(state, self._rules, self.snapshot)
        # Every new snapshot invalidates all cached responses; a position that no request waits
        # for is not worth that.
        if position_only and not self._waiters.is_awaited(after):
            return False
        before, self.snapshot = self.snapshot, after
        update = Update(before, after, self._reporter.events(after))
        self._latest.publish(after)
        self._waiters.release(after)
        for event in update.events:
            self.log(event, now)
        self._sink.publish(update)
        return True

    def log(self, event: Event, now: float) -> None:
        """Log an event, unless there are too many."""
        if not self._quiet and self._damper.admits(event, now):
            _log(event)

    def summarise(self, now: float) -> float:
        """Log what was held back, if it is time; when to call this next."""
        for event in self._damper.summaries(now):
            _log(event)
        return self._damper.next


def _log(event: Event) -> None:
    fields = {
        "event": event.change,
        "host": event.host,
        "timeline": event.timeline,
        "lag_ms": event.lag_ms,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    log.log(event.level, "%s", event.text, extra=known)
