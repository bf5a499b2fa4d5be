"""One cluster: the generation in use, its replacement on a reload, and its outputs.

A reload sets up a second generation beside the first. When all of its hosts were checked, one
assignment makes it the one in use. Connections stay open and no request is lost.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any, Protocol

from pgstatus import clock
from pgstatus.api.feeds import Epoch
from pgstatus.api.service import Service
from pgstatus.core.changes import Update, events
from pgstatus.core.selection import Question
from pgstatus.core.snapshot import Failure, Host, Observation, Snapshot
from pgstatus.daemon.generation import Generation
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.outputs.hook import Hook
from pgstatus.outputs.state_file import StateFile
from pgstatus.settings.cluster import Settings
from pgstatus.telemetry.counters import Checks
from pgstatus.telemetry.history import History

log = logging.getLogger(__name__)

# The two monitors of a reload see a promotion some milliseconds apart. If they report different
# masters for longer, the configurations are the reason.
_AGREES_WITHIN = 1.0
# Seconds after which a cluster does not delay the report to the service manager any more, which
# would end the process (TimeoutStartSec=, 90 s) and its other clusters.
_SETTLES = 10.0
# A monitor that has failed so often within so many seconds is not started again for a while.
FAILURES, FAILURE_PERIOD = 3, 60.0
_PAUSE = 60.0


class Owner(Protocol):
    """What a cluster reports to, in the monitoring thread."""

    def changed(self) -> None:
        """The answers may have changed."""

    def replaced(self) -> None:
        """The configuration of the last `Cluster.follow` is in use."""

    def became_ready(self) -> None:
        """The cluster is settled."""

    def failed(self, cluster: "Cluster") -> None:
        """A monitor has failed: `Cluster.restart_failed` is to be called soon."""


class Cluster:
    """Implements `daemon.generation.Owner`. Safe in any thread."""

    def __init__(
        self, settings: Settings, owner: Owner, thread: MonitoringThread, epoch: Epoch
    ) -> None:
        self.name = settings.name
        self._owner = owner
        self._thread = thread
        self._epoch = epoch
        self.checks = Checks()
        self.history = History()
        self.hook = Hook(settings.name)
        self._state_file = StateFile()
        self._lock = threading.Lock()
        """Protects the replacement of a generation."""
        self._next: Generation | None = None
        self._settles_at = clock.now() + _SETTLES
        self._was_settled = False
        self._is_stopped = False
        self._must_restart: set[Generation] = set()
        self._restart_at = -inf
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._state_file.use(settings.state_file)
        self._current = self._make(settings, memory=self._state_file.read())
        self._use_outputs(settings)

    @property
    def settings(self) -> Settings:
        """The newest configuration, which is in use or will be soon."""
        with self._lock:
            return (self._next or self._current).settings

    @property
    def service(self) -> Service:
        """The service of the generation in use."""
        return self._current.service

    @property
    def delivering(self) -> Mapping[str, bool]:
        """Of a relay: whether each source delivers evidence."""
        return self._current.monitor.delivering

    @property
    def is_replaced(self) -> bool:
        """No other configuration waits to be used."""
        return self._next is None

    def read(self) -> Snapshot:
        """The latest snapshot."""
        return self._current.latest.read()

    def wait_for(self, question: Question, wake: Callable[[], None]) -> Callable[[], object] | None:
        """Call ``wake`` when a snapshot answers the question; returns the function that stops
        waiting, or None if it is not possible now.
        """
        waiters = self._current.waiters
        waiter = waiters.add(question, wake)
        return None if waiter is None else partial(waiters.discard, waiter)

    def release_waiting(self) -> None:
        """Answer all waiting requests now: the process stops."""
        self._current.waiters.close()

    def start(self) -> None:
        """Start the monitor. RuntimeError: no thread can be started."""
        self._current.monitor.start()
        self._current.publish_evidence()

    def close(self) -> None:
        """End the monitors, the requests and streams that wait, and the command that is running.

        Returns at once.
        """
        with self._lock:
            self._is_stopped = True
            for generation in (self._current, self._next):
                if generation is not None:
                    generation.stop()
            self._next = None
        self.hook.terminate()

    # Reload.

    def follow(self, settings: Settings) -> None:
        """Use ``settings`` as soon as all of their hosts were checked.

        RuntimeError: no thread can be started.
        """
        with self._lock:
            superseded, self._next = self._next, None
            state = self._current.monitor.state
            if superseded is not None:
                superseded.stop()
        generation = self._make(settings, before=state)
        with self._lock:
            self._next = generation
        try:
            generation.monitor.start()
        except RuntimeError:
            with self._lock:
                self._next = None
            raise

    def restart_failed(self) -> int:
        """Start the monitors that have failed again; how many. RuntimeError: no thread."""
        if not self._must_restart or clock.now() < self._restart_at:
            return 0
        restarted = 0
        for generation in tuple(self._must_restart):
            with self._lock:
                self._must_restart.discard(generation)
                if self._is_stopped or generation not in (self._current, self._next):
                    continue
                try:
                    generation.restart()
                except BaseException:
                    self._must_restart.add(generation)
                    raise
            restarted += 1
            log.warning("the monitoring was restarted", extra=self._extra)
        return restarted

    @property
    def has_failed(self) -> bool:
        """A monitor waits to be started again."""
        return bool(self._must_restart)

    @property
    def is_settled(self) -> bool:
        """All hosts have been checked since the start, or this takes longer than a start may: a
        relay has no watcher, or a defect prevents it.
        """
        return (
            self._was_settled
            or self.read().ready
            or self._restart_at > -inf
            or clock.now() >= self._settles_at
        )

    @property
    def fails_repeatedly(self) -> bool:
        """The monitor has failed several times within a minute."""
        return len(self._failures) == FAILURES and clock.now() - self._failures[0] <= FAILURE_PERIOD

    @property
    def _extra(self) -> dict[str, str]:
        return {"cluster": self.name} if self.name else {}

    def _may_follow(self, generation: Generation) -> bool:
        """It is ready, and during a failover knows as much as the generation in use."""
        snapshot, current = generation.latest.read(), self.read()
        if not snapshot.ready:
            generation.ready_since = inf
            return False
        now = clock.now()
        generation.ready_since = min(generation.ready_since, now)
        return (
            current.master is None
            or snapshot.names_the_same(current)
            or now - generation.ready_since > _AGREES_WITHIN
        )

    def _replace(self, generation: Generation) -> None:
        with self._lock:
            if generation is not self._next:  # another reload came first
                return
            before, self._current, self._next = self._current, generation, None
            # It ends by itself, whatever fails below; the thread has hosts to check.
            before.stop()
            self._use_outputs(generation.settings)
            old, new = before.latest.read(), generation.latest.read()
            # What the new generation has learned before it was used.
            self.history.changed(old, list(events(old, new)), clock.wall())
        generation.publish_evidence()
        self._owner.changed()  # its streams end
        log.info("reloaded: %s", _difference(before.settings, generation.settings))
        self._owner.replaced()

    def _make(self, settings: Settings, **known: Any) -> Generation:
        return Generation(
            settings, self, self._thread, history=self.history, epoch=self._epoch, **known
        )

    def _use_outputs(self, settings: Settings) -> None:
        self.checks.watch(settings.hosts)
        self.hook.use(settings.on_change)
        self._state_file.use(settings.state_file)

    # Reports of the monitors.

    def published(self, generation: Generation, update: Update) -> None:
        if generation is not self._current:
            return
        if update.events:
            self.history.changed(update.before, update.events, clock.wall())
        # A subscriber may request the history when it receives the event.
        self._owner.changed()
        self.hook.offer(update.after)
        self._state_file.offer(generation.monitor.state.memory)

    def checked(
        self, generation: Generation, host: Host, result: Observation | Failure, seconds: float
    ) -> None:
        if generation is self._current:
            self.checks.checked(host, result, seconds)

    def recorded(self, generation: Generation) -> None:
        if generation is self._current:
            self._owner.changed()

    def heartbeat(self, generation: Generation) -> None:
        if generation is self._next and self._may_follow(generation):
            self._replace(generation)
        if generation is not self._current:
            return
        snapshot = generation.latest.read()
        if not self._was_settled and self.is_settled:
            self._was_settled = True
            self._owner.became_ready()
        self.history.sample(snapshot, clock.now())
        # What could not be run or written before is tried again.
        self.hook.offer(snapshot)
        self._state_file.offer(generation.monitor.state.memory)

    def failed(self, generation: Generation) -> None:
        now = clock.now()
        self._failures.append(now)
        self._restart_at = -inf
        if self.fails_repeatedly:
            self._restart_at = now + _PAUSE
            log.critical("the monitoring has failed %d times within %d s", FAILURES, FAILURE_PERIOD)
        self._must_restart.add(generation)
        self._owner.failed(self)


def _difference(before: Settings, after: Settings) -> str:
    old, new = {str(host) for host in before.hosts}, {str(host) for host in after.hosts}
    changes = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (("added", new - old), ("removed", old - new))
        if names
    ]
    return "; ".join(changes) or "the same hosts"
