"""A relay: applies the rules to the evidence of watchers, and publishes what follows from it.

It takes the place of a `monitor.Monitor`, without a connection to PostgreSQL. Which results count
is decided by `merge`, what they mean by `core.tracker`; this module decides only when.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from math import inf

from pgstatus import clock
from pgstatus.core.snapshot import Failure, Observation, Position
from pgstatus.core.state import Look, Memory, Rules, State
from pgstatus.core.tracker import (
    adopt,
    expire,
    fold_position,
    is_too_old,
    list_hosts,
    overdue,
)
from pgstatus.fleet.direct import Direct
from pgstatus.fleet.document import Document
from pgstatus.fleet.merge import Counted, Merge
from pgstatus.fleet.notices import Notices
from pgstatus.fleet.source import Source
from pgstatus.monitor.evaluation import evaluate
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.publisher import Publisher, Sink
from pgstatus.monitor.task import MonitoringTask
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.monitor.waiters import Waiters

log = logging.getLogger(__name__)

# Seconds after the first complete document in which the other watchers may deliver theirs.
_FIRST_ROUND = 1.0
# Results that are kept until then.
_COLLECTED = 10_000
# Seconds for which positions are requested at a time while requests wait.
_POSITIONS = 0.1
# A greater age is not shown, seconds: it may be any number, and a time of day may not.
_LONGEST_AGE = 365 * 86400.0
# Seconds until a source is run again after a defect.
_AFTER_DEFECT = 1.0


class Relay(MonitoringTask):
    """The relay of one cluster; its interface is that of `Monitor`.

    It continues from ``before``, the state of a previous monitor or relay, or from ``memory``.
    ``direct`` checks the hosts while no other source delivers.
    """

    kind = "the relay"

    def __init__(
        self,
        thread: MonitoringThread,
        *,
        sources: Sequence[Source],
        direct: Direct | None = None,
        latest: Latest,
        waiters: Waiters,
        rules: Rules,
        sink: Sink,
        on_failure: Callable[[BaseException], None],
        heartbeat: Callable[[], None] = lambda: None,
        before: State | None = None,
        memory: Memory | None = None,
        cluster: str = "",
    ) -> None:
        state = State.of(()) if before is None else before.among(before.hosts)
        super().__init__(
            thread,
            state,
            Publisher(state, rules, latest, waiters, sink, before=before),
            heartbeat=heartbeat,
            on_failure=on_failure,
            cluster=cluster,
        )
        self._direct = direct
        self._sources: Sequence[Source] = [*sources, *([direct] if direct else [])]
        self._rules = rules
        self._waiters = waiters
        self._memory = memory
        """What the state file holds; used when the hosts are known."""
        waiters.look = self._request_waits
        self._delivering: Mapping[str, bool] = {source.name: False for source in self._sources}
        known = () if before is None else _known(before)
        self._merge = Merge((source.name for source in self._sources), known)
        self._notices = Notices()
        self._awaited = {source.name for source in sources}
        """The sources that have neither delivered nor failed yet."""
        self._begin_at = inf
        """When to begin although sources are awaited."""
        self._has_begun = False
        self._collected: list[Counted] = []
        """What has arrived before."""
        self._positions_due = inf

    @property
    def delivering(self) -> Mapping[str, bool]:
        """Whether each source delivers evidence; from any thread."""
        return self._delivering

    def request_positions(self, seconds: float) -> None:
        """A relay has no evidence of its own that another relay could request."""

    # The receiver of all sources.

    def received(self, source: str, document: Document, at: float, *, after: float = -inf) -> None:
        self._awaited.discard(source)
        counted = self._merge.received(source, document, at, after)
        if self._has_begun:
            self._update_hosts(at)
            self._apply(counted, at)
        else:
            self._collected = [*self._collected, *counted][-_COLLECTED:]
        self._nudge.set()

    def lost(self, source: str, reason: str) -> None:
        self._awaited.discard(source)
        self._merge.lost(source)
        if reason:
            self._notices.lost(source, reason)
        self._nudge.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow(source)) for source in self._sources]
            try:
                await self._work()
            finally:
                for task in tasks:
                    task.cancel()

    async def _follow(self, source: Source) -> None:
        while True:
            try:
                await source.run(self)
            except Exception as error:  # a defect of one source is none of the others
                log.exception("%s: the source of evidence failed", source.name)
                self.lost(source.name, f"unexpected {type(error).__name__}: {error}")
            await asyncio.sleep(_AFTER_DEFECT)

    async def _work(self) -> None:
        while not self._stopping:
            now = clock.now()
            self._beat(now)
            if self._direct is not None:
                self._update_direct(self._direct, now)
            self._begin(now)
            self._advance(now)
            self._publish(now)
            self._continue_positions(now)
            due = min(
                self._beat_due,
                self._begin_at,
                self._positions_due,
                inf if self._direct is None else self._direct.changes_at,
                self._merge.next(now),
                self._publisher.summarise(now),
            )
            await self._sleep(now, due)

    def _begin(self, now: float) -> None:
        """Begin with the first complete document of a watcher that has checked all hosts.

        Other watchers may know of a newer timeline: their first documents are awaited for a moment.
        """
        if self._has_begun or not any(watcher.ready for watcher in self._merge.live(now)):
            return
        self._begin_at = min(self._begin_at, now + _FIRST_ROUND)
        if self._awaited and now < self._begin_at:
            return
        self._has_begun, self._begin_at = True, inf
        self._update_hosts(now)
        if self._memory is not None and not self._state.restored:
            self._state = self._state.restore(self._memory)
        self._adopt(now)
        collected, self._collected = self._collected, []
        # Lags are measured against the master. The watchers have checked again what appeared late.
        masters = {
            result.address
            for result in collected
            if isinstance(result.value, Observation) and not result.value.in_recovery
        }
        collected.sort(key=lambda result: result.address not in masters)
        for counted in collected:
            is_round = counted.look is Look.ROUND
            self._apply([counted._replace(look=Look.RECHECK) if is_round else counted], now)

    def _update_direct(self, direct: Direct, now: float) -> None:
        others = [w for source, w in self._merge.watchers.items() if source != direct.name]
        newest = max((watcher.sent for watcher in others), default=now)
        direct.update(now, newest, has_watcher=any(watcher.is_live(now) for watcher in others))

    def _advance(self, now: float) -> None:
        """What follows from the passing of time, and from changes of the watchers."""
        if self._has_begun:
            self._update_hosts(now)
            self._adopt(now)
            self._apply(self._merge.due(now), now)
            self._keep(expire(self._state, now, self._rules))
            for index, host in enumerate(self._state.hosts):
                watchers = self._merge.watchers_of(host.address, now)
                watcher = self._state.records[index].watcher
                self._keep(self._state.reported_by(index, watcher, watchers))
        self._delivering = self._merge.delivering(now)
        for event in self._notices.events(self._merge, self._state.hosts, self._rules, now):
            self._publisher.log(event, now)
        self._keep(self._state.received_from(self._notices.sources(self._delivering)))

    def _update_hosts(self, now: float) -> None:
        hosts = self._merge.hosts(now)
        if hosts and hosts != self._state.hosts:
            listed = {host.address for host in hosts}
            for host in self._state.hosts:
                if host.address not in listed:
                    self._merge.forget(host.address)
            self._keep(list_hosts(self._state, hosts, self._rules, now))

    def _adopt(self, now: float) -> None:
        for memory in self._merge.memories():
            self._keep(adopt(self._state, memory, self._rules, now))

    def _apply(self, results: Sequence[Counted], now: float) -> None:
        # What was known, or the result, may be old: this process may have been paused.
        self._keep(expire(self._state, now, self._rules))
        indexes = {host.address: index for index, host in enumerate(self._state.hosts)}
        for address, watcher, look, value in results:
            index = indexes.get(address)
            if index is None or is_too_old(value.started, now, self._rules):
                continue
            if isinstance(value, Position):
                seen = self._state.records[index].seen
                if seen is not None and value.lsn != seen.lsn:
                    state = fold_position(self._state, index, value, self._rules)
                    self._keep(state, position_only=True)
                continue
            state = self._folded(index, look, value, now)
            self._keep(state.reported_by(index, watcher, state.records[index].watchers))

    def _folded(self, index: int, look: Look, value: Observation | Failure, now: float) -> State:
        if isinstance(value, Failure) and look is Look.OVERDUE:
            return overdue(self._state, index, value)
        checked_at = clock.wall() - timedelta(seconds=min(now - value.finished, _LONGEST_AGE))
        return evaluate(self._state, index, value, checked_at, self._rules, look)

    # Requests that wait for a position.

    def _request_waits(self) -> None:
        """A request begins to wait for a position; called from any thread."""
        self._thread.call(self._request_positions)

    def _request_positions(self) -> None:
        self._publisher.reconsider()
        for source in self._sources:
            source.request_positions(_POSITIONS)
        self._positions_due = clock.now() + _POSITIONS / 2
        self._nudge.set()

    def _continue_positions(self, now: float) -> None:
        if now >= self._positions_due:
            self._positions_due = inf
            if not self._waiters.is_empty:
                self._request_positions()


def _known(state: State) -> Iterator[Counted]:
    """The successful checks of a state from before."""
    for host, record in zip(state.hosts, state.records, strict=True):
        if record.seen is not None:
            yield Counted(host.address, record.watcher or Direct.name, Look.RECHECK, record.seen)
