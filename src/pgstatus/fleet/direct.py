"""Checks of the hosts by a relay itself, while no watcher delivers evidence.

The checks are a source of evidence like any other, so nothing else in the relay depends on who
makes them.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from math import inf

from pgstatus.core.changes import Update
from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.core.state import Rules
from pgstatus.fleet.evidence import BATCH, Condition, Evidence
from pgstatus.fleet.source import Receiver
from pgstatus.monitor.monitor import Monitor
from pgstatus.monitor.publisher import Sink
from pgstatus.monitor.results import LatestResults

log = logging.getLogger(__name__)

# Seconds without any watcher until checks begin at the earliest: most restarts take less.
_BEGIN = 1.0
# All relays lose their watchers at the same moment, and must not log in at the same moment: they
# begin within so many seconds, if possible before the last evidence is too old.
_SHORTEST, _LONGEST = 2.0, 10.0
# Seconds that are left for the first check then.
_FIRST_CHECK = 1.0
# Seconds that a watcher has to be back until the checks end.
_STABLE = 5.0


class Need:
    """Whether the relay should make checks. Pure: the time and the randomness are arguments."""

    def __init__(self, max_staleness: float, jitter: Callable[[], float] = random.random) -> None:
        self._max_staleness = max_staleness or inf
        self._jitter = jitter
        self._begin_at: float | None = None
        """Since no watcher is live: when to begin."""
        self._back_since: float | None = None
        self.exists = False

    def update(self, now: float, newest: float, *, has_watcher: bool) -> None:
        """A watcher is live, or not; the last document was sent at ``newest``.

        To be called about once a second, and after changes.
        """
        if not has_watcher:
            self._back_since = None
            if self._begin_at is None:
                earliest = now + _BEGIN
                spread = newest + self._max_staleness - _FIRST_CHECK - earliest
                self._begin_at = earliest + self._jitter() * min(max(spread, _SHORTEST), _LONGEST)
            self.exists = self.exists or now >= self._begin_at
            return
        self._begin_at = None
        if self._back_since is None:
            self._back_since = now
        if now - self._back_since >= _STABLE:
            self.exists = False

    @property
    def changes_at(self) -> float:
        """When `update` may have an effect although nothing else changes; infinite: never."""
        return inf if self._begin_at is None or self.exists else self._begin_at


class Direct:
    """The source of evidence that consists of the relay's own checks."""

    name = "direct"

    def __init__(
        self, hosts: tuple[Host, ...], make: Callable[[LatestResults], Monitor], rules: Rules
    ) -> None:
        """``make`` makes the monitor that checks ``hosts`` by these rules."""
        self._hosts = hosts
        self._make = make
        self._interval = rules.sleep
        self._monitor: Monitor | None = None
        self._need = Need(rules.max_staleness)
        self._changed = asyncio.Event()

    def update(self, now: float, newest: float, *, has_watcher: bool) -> None:
        """See `Need.update`."""
        before = self._need.exists
        self._need.update(now, newest, has_watcher=has_watcher)
        if self._need.exists is not before:
            self._changed.set()

    @property
    def changes_at(self) -> float:
        """When `update` is to be called."""
        return self._need.changes_at

    async def run(self, receiver: Receiver) -> None:
        while True:
            while not self._need.exists:
                await self._wait()
            log.warning("no watcher delivers evidence: this relay checks the hosts itself")
            await self._check(receiver)
            log.info("a watcher delivers evidence again: this relay no longer checks the hosts")

    def request_positions(self, seconds: float) -> None:
        if self._monitor is not None:
            self._monitor.request_positions(seconds)

    async def _check(self, receiver: Receiver) -> None:
        results = LatestResults(self._hosts, self._changed.set)
        monitor = self._monitor = self._make(results)

        def condition() -> Condition:
            return Condition(monitor.state.memory, monitor.state.ready)

        evidence = Evidence(results, condition, self._interval, self.name)
        version: int | None = None
        try:
            monitor.start()
            while self._need.exists:
                version, document = evidence.document(version)
                receiver.received(self.name, document, document.sent, after=document.sent)
                await self._wait(BATCH)
        finally:
            self._monitor = None
            monitor.stop()
            receiver.lost(self.name, "")

    async def _wait(self, seconds: float | None = None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


class ChecksOnly:
    """The sink of a monitor whose results are evidence: the relay publishes what follows."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def publish(self, update: Update) -> None:
        pass

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        self._sink.checked(host, result, seconds)
