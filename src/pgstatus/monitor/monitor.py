"""The monitor of one cluster: starts the checks, folds their results into the state, publishes
changes.

It runs as a task of the monitoring thread. The decisions are pure functions of `tracker`, `view`
and `schedule`; this module decides only when they are applied.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

from pgstatus import clock
from pgstatus.core.decision import changes_decision
from pgstatus.core.schedule import Schedule
from pgstatus.core.snapshot import Failure, Host, Observation, Role
from pgstatus.core.state import Look, Memory, Rules, State
from pgstatus.core.tracker import (
    expire,
    fold_position,
    is_too_old,
    overdue_after,
    suspect,
)
from pgstatus.monitor.evaluation import evaluate
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.lost import LostConnections
from pgstatus.monitor.positions import PositionChecks
from pgstatus.monitor.prober import ProbeFactory, failure_of, outcome
from pgstatus.monitor.publisher import Publisher, Sink
from pgstatus.monitor.results import LatestResults
from pgstatus.monitor.running import RunningChecks
from pgstatus.monitor.task import MonitoringTask
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.monitor.waiters import Waiters
from pgstatus.telemetry import logs

log = logging.getLogger(__name__)

# A replica that looked late in a round is checked again after this pause: long enough for WAL that
# was written just before the round to arrive.
_RECHECK_AFTER = 0.05
# A host whose connections break repeatedly is checked no less often than this because of it: while
# none is kept, a crash causes no broken connection.
_PATIENCE = 1.0


class Monitor(MonitoringTask):
    """The monitor of one configuration of one cluster.

    It continues from ``before``, the state of a previous monitor, or from ``memory``, what the
    state file holds; neither makes it ready before every host was checked. In the thread are
    called: ``sink``, ``heartbeat`` at least every second, and ``on_failure`` if a defect ended it;
    its connections are closed then, and another monitor may take its place. Its log messages are
    those of ``cluster``; ``quiet``: changes are not logged.
    """

    kind = "the monitoring"

    def __init__(
        self,
        thread: MonitoringThread,
        *,
        hosts: Sequence[Host],
        probes: ProbeFactory,
        latest: Latest,
        waiters: Waiters,
        rules: Rules,
        schedule: Schedule,
        sink: Sink,
        on_failure: Callable[[BaseException], None],
        heartbeat: Callable[[], None] = lambda: None,
        before: State | None = None,
        memory: Memory | None = None,
        results: LatestResults | None = None,
        quiet: bool = False,
        cluster: str = "",
    ) -> None:
        state = State.of(hosts) if before is None else before.among(hosts)
        if before is None and memory is not None:
            state = state.restore(memory)
        super().__init__(
            thread,
            state,
            Publisher(state, rules, latest, waiters, sink, before=before, quiet=quiet),
            heartbeat=heartbeat,
            on_failure=on_failure,
            cluster=cluster,
        )
        self._rules = rules
        self._schedule = schedule
        self._sink = sink
        waiters.look = self._request_waits
        self._results = results or LatestResults(hosts)
        self._positions_until = -inf
        """Positions are checked until then, although no request waits for one here."""
        self._positions = PositionChecks(
            self._check_position,
            lambda: not waiters.is_empty or clock.now() < self._positions_until,
        )
        self._probes = [
            probes(index, partial(self._connection_lost, index)) for index in range(len(hosts))
        ]
        self._lost = LostConnections(
            lambda checks: min(_PATIENCE, schedule.patience(checks)), schedule.sleep
        )
        self._locks = [asyncio.Lock() for _ in hosts]
        """A connection carries one query at a time."""
        self._in_round: set[int] = set()
        """The hosts whose check of a round runs, or waits for a position check to end."""
        # A frozen host would otherwise be noticed only at its deadline.
        self._running = RunningChecks(lambda index: overdue_after(self._state, index))
        self._transition_since: float | None = None
        """Since when a failover has been in progress, or a host has not been checked yet."""
        self._first_position = 0

    @property
    def delivering(self) -> Mapping[str, bool]:
        """It checks the hosts itself."""
        return {}

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._checks:
                while not self._stopping:
                    began = clock.now()
                    for index in range(len(self._probes)):
                        self._begin_check(index)
                    await self._pause(began)
                raise _Stop
        except* _Stop:
            pass
        finally:
            for probe in self._probes:
                probe.close()

    def _begin_check(self, index: int) -> None:
        if index not in self._in_round:
            self._in_round.add(index)
            self._lost.begun(index, clock.now())
            self._checks.create_task(self._check(index))

    async def _check(self, index: int) -> None:
        try:
            async with self._locks[index]:
                await self._observe(index, Look.ROUND)
        finally:
            self._in_round.discard(index)
        if not self._state.records[index].unsettled:
            return
        # Meanwhile the check of the master may settle it.
        await asyncio.sleep(_RECHECK_AFTER)
        async with self._locks[index]:
            if self._state.records[index].unsettled:
                await self._observe(index, Look.RECHECK)

    async def _observe(self, index: int, look: Look) -> None:
        started = clock.now()
        self._running.begin(index, started)
        try:
            result = await outcome(self._probes[index])
        finally:
            self._ended(index)
        log.debug("%s: %s", self._state.hosts[index], result)
        if isinstance(result, Failure):
            self._lost.failed(index)
        self._sink.checked(self._state.hosts[index], result, clock.now() - started)
        self._fold(index, result, look)

    def _fold(self, index: int, result: Observation | Failure, look: Look) -> None:
        # This process may have been paused meanwhile: what was known, or the response, is old then.
        now = clock.now()
        state = expire(self._state, now, self._rules)
        if not is_too_old(result.started, now, self._rules):
            before = state.records[index]
            state = evaluate(state, index, result, clock.wall(), self._rules, look)
            after = state.records[index]
            self._results.record(
                index,
                look,
                result,
                dead=after.seen is None,
                matters=changes_decision(before, after),
            )
        self._keep(state)

    def _ended(self, index: int) -> None:
        self._running.end(index)
        self._nudge.set()

    def request_positions(self, seconds: float) -> None:
        """Check positions for so long, as if a request waited; called from any thread."""
        self._positions_until = max(self._positions_until, clock.now() + seconds)
        self._request_waits()

    def _request_waits(self) -> None:
        """A request begins to wait for a position; called from any thread."""
        self._thread.call(self._begin_position_checks)

    def _begin_position_checks(self) -> None:
        logs.set_cluster(self._cluster)  # the context is that of the thread that has called
        self._publisher.reconsider()
        self._nudge.set()
        hosts = self._publisher.snapshot.hosts
        # The replica whose check begins first is usually the first to respond, and then serves the
        # requests that wait: each in turn.
        self._first_position += 1
        for number in range(len(hosts)):
            index = (self._first_position + number) % len(hosts)
            status = hosts[index]
            is_healthy_replica = status.role is Role.REPLICA and not status.possible_dead
            if is_healthy_replica and self._positions.begin(index):
                self._checks.create_task(self._positions.repeat(index))

    async def _check_position(self, index: int) -> bool:
        """Check how far a replica has replayed; False: not to be repeated."""
        if self._locks[index].locked():
            return True  # the check that runs reports its position
        async with self._locks[index]:
            started = clock.now()
            self._running.begin(index, started)
            try:
                position = await self._probes[index].position()
            except Exception as error:  # a host can only harm itself
                self._fold(index, failure_of(error, started), Look.POSITION)
                return False
            finally:
                self._ended(index)
        if not position.in_recovery:
            self._begin_check(index)
            return False
        seen = self._state.records[index].seen
        if seen is not None and position.lsn != seen.lsn:
            state = fold_position(self._state, index, position, self._rules)
            self._results.record(index, Look.POSITION, position, dead=False, matters=True)
            self._keep(state, position_only=True)
        return True

    async def _pause(self, began: float) -> None:
        """Wait until the next round is due; a change of the state can bring it forward."""
        while not self._stopping:
            now = clock.now()
            self._beat(now)
            for index in self._lost.due(now):
                self._begin_check(index)
            for index, started in self._running.overdue(now):
                self._suspect(index, started, now)
            self._keep(expire(self._state, now, self._rules))
            self._publish(now)
            summary_due = self._publisher.summarise(now)
            due = began + self._pause_now(now)
            if due <= now:
                return
            until = min(due, self._lost.next(now), self._running.next, self._beat_due, summary_due)
            await self._sleep(now, until)

    def _suspect(self, index: int, started: float, now: float) -> None:
        state = suspect(self._state, index, started, now)
        failure = state.records[index].failure
        if state is not self._state and failure is not None:
            self._results.record(index, Look.OVERDUE, failure, dead=False, matters=True)
        self._keep(state)

    def _pause_now(self, now: float) -> float:
        # A master whose check is overdue is treated as missing.
        overdue = self._running.is_overdue(self._state.master, now)
        if not self._state.in_transition and not overdue:
            self._transition_since = None
        elif self._transition_since is None:
            self._transition_since = now
        since = self._transition_since
        return self._schedule.pause(None if since is None else now - since)

    def _connection_lost(self, index: int) -> None:
        self._lost.lost(index, clock.now())
        self._nudge.set()


class _Stop(Exception):  # noqa: N818  # it ends the task group; nothing went wrong
    pass
