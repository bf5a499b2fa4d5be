"""The one thread that watches: starts the checks, folds their results, publishes snapshots.

Inside the thread runs an asyncio loop, so that the checks of all hosts run at once and a dead
host delays no other. All decisions are pure functions of `tracker`, `view` and `schedule`; this
module only says when.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Protocol

from pgstatus import clock
from pgstatus.core.changes import Event, events
from pgstatus.core.schedule import Schedule
from pgstatus.core.snapshot import Failure, Host, Observation, Role, Snapshot
from pgstatus.core.state import Look, Memory, Rules, State
from pgstatus.core.tracker import expire, fold, is_too_old, suspect
from pgstatus.core.view import view
from pgstatus.errors import CheckError
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.waiters import Waiters

log = logging.getLogger(__name__)

# After a round in which a replica looked late: long enough for log written just before the round
# to arrive, short enough that nobody waits for the answer.
_LOOK_AGAIN_AFTER = 0.05
# The monitor gives a sign of life at least this often, however long its pauses are.
_BEAT = 1.0
# A master that has not answered for this long is treated as missing when the pause is chosen, and
# any other replica is preferred to one: a frozen host says nothing, and its deadline is seconds
# away.
_OVERDUE = 0.5
# Where it was we who slept, what has come meanwhile is read first.
_SECOND_THOUGHT = 0.05
# Between two glances at a replica for whose position somebody waits. It replays within a
# millisecond or two on a network that is in order.
_GLANCE_EVERY = 0.001
# Who has not got it by then has a replica that is late; asking more often would not help.
_GLANCE_AT_LEAST_EVERY = 0.02


class Prober(Protocol):
    """What the monitor needs of a probe; see `probe.Probe`."""

    async def check(self) -> Observation:
        """One check within its own deadline; CheckError when it failed."""

    def close(self) -> None:
        """Give the connection back."""


ProbeFactory = Callable[[int, Callable[[], None]], Prober]
"""(index of the host, called on the loop when its connection breaks) → probe."""


async def outcome(prober: Prober) -> Observation | Failure:
    """One check, as a value whatever comes of it."""
    started = clock.now()
    try:
        return await prober.check()
    except CheckError as error:
        return Failure(error.cause, str(error), started, clock.now())


class Monitor:
    """The monitoring thread; it goes on from ``before``, where there was something before it.

    In the thread are called: ``on_result`` with the result of each check, ``on_events`` with what
    has changed since which snapshot, ``on_beat`` after each result and at least every second,
    ``on_death`` if a defect ends it.
    """

    def __init__(
        self,
        *,
        hosts: Sequence[Host],
        probes: ProbeFactory,
        board: Latest,
        waiters: Waiters,
        rules: Rules,
        schedule: Schedule,
        on_death: Callable[[], None],
        on_beat: Callable[[], None] = lambda: None,
        on_result: Callable[[Host, Observation | Failure], None] = lambda host, result: None,
        on_events: Callable[[Snapshot, Sequence[Event]], None] = lambda before, events: None,
        before: State | None = None,
    ) -> None:
        self._state = before.among(hosts) if before else State.of(hosts)
        board.publish(view(self._state, rules))
        self._board = board
        self._parking = waiters
        waiters.look = self._glance_from_any_thread
        self._rules = rules
        self._schedule = schedule
        self._on_death = on_death
        self._on_beat = on_beat
        self._on_result = on_result
        self._on_events = on_events
        self._probes = [
            probes(index, partial(self._connection_lost, index)) for index in range(len(hosts))
        ]
        self._shown = board.read()
        self._glancing: set[int] = set()
        self._glanced_at: set[int] = set()
        """Whose running check is a glance."""
        self._owed: set[int] = set()
        """Whose check of the round has to wait for a glance to end."""
        self._alarms: dict[int, tuple[int, float]] = {}
        """How often in a row a host's connection broke, and when we looked because of the last."""
        self._running: dict[int, float] = {}
        """When the check under way of a host began."""
        self._restless_since: float | None = None
        """Since when a failover has been under way, or somebody has not been asked yet."""
        self._look_at = inf
        """When to look at everybody because a connection broke."""
        self._nudge = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> State:
        """What it remembers at this moment; from any thread."""
        return self._state

    def start(self, memory: Memory | None = None) -> None:
        """Begin, with what was known before a restart."""
        if memory is not None:
            self._keep(self._state.restore(memory))
        # Made no earlier: from Python 3.13 on, a thread made before a fork cannot start after it.
        self._thread = threading.Thread(target=self._main, name="monitor", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the thread and its connections; waits ``timeout`` seconds for it at the most."""
        self._stopping.set()
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._nudge.set)
            except RuntimeError:
                log.debug("the monitor's loop was closed already")
        if self._thread is not None:
            self._thread.join(timeout)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException:
            log.critical("the monitor died of a defect", exc_info=True)
            self._on_death()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as checks:
                while not self._stopping.is_set():
                    began = clock.now()
                    self._look_at = inf
                    self._checks = checks
                    for index in range(len(self._probes)):
                        if index not in self._running:
                            self._begin_check(index)
                        elif index in self._glanced_at:
                            self._owed.add(index)
                    await self._pause(began)
                raise _Stop
        except* _Stop:
            pass
        finally:
            for probe in self._probes:
                probe.close()

    def _begin_check(self, index: int) -> None:
        # Marked here and not in the task, which begins later: a glance might slip in.
        self._running[index] = clock.now()
        self._checks.create_task(self._check(index))

    async def _check(self, index: int) -> None:
        await self._ask(index, Look.ROUND)
        if index not in self._state.unsettled:
            return
        # Meanwhile the master's check may settle it, and somebody may wait for its position.
        await asyncio.sleep(_LOOK_AGAIN_AFTER)
        while index in self._running:  # noqa: ASYNC110  # a glance, which is short, or a round
            await asyncio.sleep(_GLANCE_EVERY)
        if index in self._state.unsettled:
            await self._ask(index, Look.RECHECK)

    async def _ask(self, index: int, look: Look) -> None:
        asked = self._running[index] = clock.now()
        loop = asyncio.get_running_loop()
        overdue = loop.call_later(
            _OVERDUE, loop.call_later, _SECOND_THOUGHT, self._suspect, index, asked
        )
        try:
            result = await outcome(self._probes[index])
        finally:
            del self._running[index]
            overdue.cancel()
        log.debug("%s: %s", self._state.hosts[index], result)
        if isinstance(result, Failure):
            self._alarms.pop(index, None)  # it was no false alarm
        self._on_result(self._state.hosts[index], result)
        # We may have slept meanwhile: what was known, or what was answered, is old then.
        now = clock.now()
        state = expire(self._state, now, self._rules)
        if not is_too_old(result.started, now, self._rules):
            state = fold(state, index, result, clock.wall(), self._rules, look)
        self._keep(state, look)
        self._nudge.set()

    def _suspect(self, index: int, asked: float) -> None:
        if self._running.get(index) == asked:
            self._keep(suspect(self._state, index, asked, clock.now()))

    def _keep(self, state: State, look: Look = Look.ROUND) -> None:
        if state is self._state:
            return
        self._state = state
        after = view(state, self._rules)
        told = list(events(self._shown, after))
        # Every new snapshot has its answers made anew; a position that nobody waits for is not
        # worth that.
        if look is Look.POSITION and not told and not self._parking.is_awaited(after):
            return
        before, self._shown = self._shown, after
        self._board.publish(after)
        self._parking.release(after)
        if told:
            self._on_events(before, told)
        for event in told:
            log.log(event.level, "%s", event.text)

    def _glance_from_any_thread(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: we are stopping
                self._loop.call_soon_threadsafe(self._begin_glances)

    def _begin_glances(self) -> None:
        for index, status in enumerate(self._shown.hosts):
            if index not in self._glancing and status.role is Role.REPLICA:
                self._glancing.add(index)
                self._checks.create_task(self._glance(index))

    async def _glance(self, index: int) -> None:
        """Ask one replica again and again while somebody waits for what it replays."""
        pause = _GLANCE_EVERY
        try:
            while not self._parking.is_empty and self._shown.hosts[index].role is Role.REPLICA:
                if index not in self._running:
                    await self._glance_once(index)
                    if self._shown.hosts[index].error is not None:
                        return
                await asyncio.sleep(pause)
                pause = min(2 * pause, _GLANCE_AT_LEAST_EVERY)
        finally:
            self._glancing.discard(index)

    async def _glance_once(self, index: int) -> None:
        self._glanced_at.add(index)
        try:
            await self._ask(index, Look.POSITION)
        finally:
            self._glanced_at.discard(index)
        if index in self._owed:
            self._owed.discard(index)
            self._begin_check(index)

    async def _pause(self, began: float) -> None:
        """Wait until the next round is due; what happens meanwhile can bring it forward."""
        while not self._stopping.is_set():
            self._on_beat()
            now = clock.now()
            self._keep(expire(self._state, now, self._rules))
            due = began + self._pause_now(now)
            left = min(due, max(self._look_at, began + self._schedule.failover_sleep)) - now
            if left <= 0:
                return
            asked = self._master_asked
            if asked is not None and asked + _OVERDUE > now:
                left = min(left, asked + _OVERDUE - now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _BEAT)):
                    await self._nudge.wait()
            self._nudge.clear()

    @property
    def _master_asked(self) -> float | None:
        """When the master's check under way began."""
        return None if self._state.master is None else self._running.get(self._state.master)

    def _pause_now(self, now: float) -> float:
        asked = self._master_asked
        overdue = asked is not None and now - asked >= _OVERDUE
        if not self._state.in_transition and not overdue:
            self._restless_since = None
        elif self._restless_since is None:
            self._restless_since = now
        since = self._restless_since
        return self._schedule.pause(None if since is None else now - since)

    def _connection_lost(self, index: int) -> None:
        """A connection broke: look at all hosts, now where this is not one of many times."""
        now = clock.now()
        alarms, looked_at = self._alarms.get(index, (0, -inf))
        if now - looked_at > self._schedule.sleep:
            alarms = 0
        look_at = max(now, looked_at + self._schedule.patience(alarms))
        self._alarms[index] = alarms + 1, look_at
        self._look_at = min(self._look_at, look_at)
        self._nudge.set()


class _Stop(Exception):  # noqa: N818  # it ends the task group; nothing went wrong
    pass
