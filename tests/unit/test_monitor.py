"""The monitoring thread: when it checks, what it publishes, what delays it, how it ends."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import log2
from typing import Any

import pytest

from pgstatus import clock
from pgstatus.core import tracker
from pgstatus.core.changes import Change, Update
from pgstatus.core.schedule import Schedule
from pgstatus.core.selection import Kind, Place, Question, Thresholds, choose
from pgstatus.core.snapshot import Failure, Host, Observation, Snapshot
from pgstatus.core.state import Rules, State
from pgstatus.monitor import evaluation
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.lost import LostConnections
from pgstatus.monitor.monitor import Monitor
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.monitor.waiters import Waiters
from tests.support.fakes import FakeProbe
from tests.support.waiting import wait_until


class RecordingSink:
    """Keeps what the monitor publishes, together with what `Latest` held at that moment."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self.updates: list[Update] = []
        self.latest: list[Snapshot] = []
        self.durations: list[tuple[str, float]] = []

    def publish(self, update: Update) -> None:
        self.latest.append(self._latest.read())
        self.updates.append(update)

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        self.durations.append((host.name, seconds))


class Watched:
    """A running monitor of fake hosts."""

    def __init__(
        self,
        *probes: FakeProbe,
        sleep: float,
        max_staleness: float,
        before: State | None = None,
        latest: Latest | None = None,
    ) -> None:
        self.probes = probes
        self.failed = threading.Event()
        self.beats = 0
        hosts = [Host(name, 5432) for name in "abc"[: len(probes)]]
        rules = Rules(sleep=sleep, max_staleness=max_staleness)
        self.latest = latest or Latest(hosts, rules)
        self.waiters = Waiters(100)
        self.sink = RecordingSink(self.latest)

        def probe(index: int, on_lost: Callable[[], None]) -> FakeProbe:
            probes[index].on_lost = on_lost
            return probes[index]

        def beat() -> None:
            self.beats += 1

        self.thread = MonitoringThread(beat)
        self.monitor = Monitor(
            self.thread,
            hosts=hosts,
            probes=probe,
            latest=self.latest,
            waiters=self.waiters,
            rules=rules,
            schedule=Schedule(sleep, failover_sleep=min(sleep, 0.01)),
            sink=self.sink,
            heartbeat=beat,
            on_failure=lambda error: self.failed.set(),
            before=before,
        )
        self.monitor.start()

    def stop(self) -> None:
        self.monitor.stop()
        self.monitor.wait(1)
        self.thread.stop(1)

    def master(self) -> str | None:
        master = self.latest.read().master
        return master.host.name if master else None

    def lose_connection(self, index: int) -> None:
        """Break it, and let the loop run for longer than the shortest pause."""
        self.probes[index].lose_connection()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), self.probes[index].loop).result(5)

    def in_sync(self) -> int:
        return sum(status.sync_by_time for status in self.latest.read().hosts)

    def wait(self, question: Question, timeout: float) -> bool:
        """Wait as a request does; whether the question was answered."""
        answered = threading.Event()
        waiter = self.waiters.add(question, answered.set)
        assert waiter is not None
        try:
            return answered.wait(timeout)
        finally:
            self.waiters.discard(waiter)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """``watch(FakeProbe("master"), FakeProbe(), sleep=60)``"""
    running: list[Watched] = []

    def watch(
        *probes: FakeProbe, sleep: float = 60.0, max_staleness: float = 30.0, **more: Any
    ) -> Watched:
        running.append(Watched(*probes, sleep=sleep, max_staleness=max_staleness, **more))
        return running[-1]

    yield watch
    for watched in running:
        watched.stop()
        assert all(probe.closed for probe in watched.probes)


def test_a_frozen_host_delays_no_other(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe(), FakeProbe("master"), FakeProbe(), sleep=0.02)
    frozen, *others = watched.probes
    wait_until("the first round", lambda: watched.in_sync() == 3)
    frozen.behaviour = "frozen"
    wait_until("it is being checked", lambda: frozen.at_once == 1 and frozen.waits)
    before = [frozen.checks, *(probe.checks for probe in others)]
    wait_until(
        "ten rounds",
        lambda: min(p.checks - n for p, n in zip(others, before[1:], strict=True)) > 10,
    )
    assert frozen.checks == before[0]
    assert watched.master() == "b"


def test_no_master_before_every_host_was_checked(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("frozen"), FakeProbe("master"), FakeProbe(), sleep=0.02)
    wait_until("ten rounds", lambda: watched.probes[1].checks > 10 < watched.probes[2].checks)
    assert watched.master() is None
    assert not watched.latest.read().ready
    assert watched.latest.read().no_master == "not every host has been checked yet"


def test_a_lost_connection_begins_a_round_at_once(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    old, promoted = watched.probes
    old.behaviour, promoted.behaviour, promoted.timeline = "refusing", "master", 2
    watched.lose_connection(0)
    wait_until("the promoted host is the master", lambda: watched.master() == "b", timeout=5)


def test_connections_that_break_repeatedly_cause_few_checks(
    watch: Callable[..., Watched],
) -> None:
    """The pauses between the checks that they cause double: 10, 20, 40 ms and so on."""
    watched = watch(FakeProbe("master"), sleep=60)
    wait_until("the first round", lambda: watched.master() == "a")
    checks = watched.probes[0].checks
    began = clock.now()
    for _ in range(20):
        watched.lose_connection(0)
    took = clock.now() - began
    assert 2 <= watched.probes[0].checks - checks <= 3 + log2(took / 0.01)


@pytest.mark.parametrize("breaks_before", [1, 3])
def test_a_crash_just_after_a_broken_connection_is_noticed(
    watch: Callable[..., Watched], breaks_before: int
) -> None:
    """An administrator terminated the session; then the host crashes."""
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    for _ in range(breaks_before):
        watched.lose_connection(0)
    watched.probes[0].behaviour, watched.probes[1].behaviour = "refusing", "master"
    watched.probes[1].timeline = 2
    watched.lose_connection(0)
    wait_until("the promoted host is the master", lambda: watched.master() == "b", timeout=5)


def test_each_crash_of_a_host_is_noticed(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    for _ in range(8):
        watched.probes[0].behaviour = "refusing"
        watched.lose_connection(0)
        wait_until("it fails", lambda: watched.latest.read().hosts[0].possible_dead, timeout=5)
        watched.probes[0].behaviour = "master"
        wait_until(
            "it recovers", lambda: not watched.latest.read().hosts[0].possible_dead, timeout=5
        )


def test_without_a_master_checks_are_frequent(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("refusing"), FakeProbe(), sleep=60)
    wait_until("many rounds", lambda: watched.probes[0].checks > 10)
    watched.probes[1].behaviour = "master"
    wait_until("the promoted host is the master", lambda: watched.master() == "b", timeout=5)


def test_checks_are_frequent_while_the_master_is_overdue(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=1)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[0].behaviour = "frozen"
    frozen_at = watched.probes[1].checks
    wait_until("the fast schedule", lambda: watched.probes[1].checks > frozen_at + 10, timeout=5)


def test_an_overdue_replica_is_not_returned_if_there_is_another(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), FakeProbe(), sleep=0.2)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    watched.probes[1].behaviour = "frozen"
    wait_until("it is suspected", lambda: watched.latest.read().hosts[1].possible_dead, timeout=5)
    status = watched.latest.read().hosts[1]
    assert "no response for 0." in (status.error or "")
    question = Thresholds().question(Kind.SYNC_BY_TIME)
    assert [s.host.name for s in choose(watched.latest.read(), question, Place()).hosts] == ["c"]


def test_a_late_response_ends_the_suspicion(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=0.2)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[1].takes = 1.0
    wait_until("it is suspected", lambda: watched.latest.read().hosts[1].possible_dead, timeout=5)
    wait_until("it is trusted", lambda: not watched.latest.read().hosts[1].possible_dead, timeout=5)
    assert watched.latest.read().hosts[1].error is None


def test_no_host_is_suspected_after_a_pause_of_this_process(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(takes=0.1), sleep=0.2)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    checks = watched.probes[1].checks
    wait_until("a check is under way", lambda: watched.probes[1].at_once == 1)
    seen: list[bool] = []

    def publish(snapshot: Snapshot) -> None:
        seen.append(snapshot.hosts[1].possible_dead)

    watched.latest.publish = publish  # type: ignore[method-assign]
    # The whole loop stands still while the response arrives.
    watched.probes[1].loop.call_soon_threadsafe(time.sleep, 1.0)
    wait_until("the next checks", lambda: watched.probes[1].checks > checks + 2, timeout=5)
    assert not any(seen)
    assert seen


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advance the clock as if the machine had been suspended for so many seconds."""
    running = clock.now

    def suspend(seconds: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: running() + seconds)

    return suspend


def masters_while_ready(watched: Watched) -> list[str | None]:
    """From now on: the master of each snapshot that may be served."""
    names: list[str | None] = []
    publish = watched.latest.publish

    def noting(snapshot: Snapshot) -> None:
        if snapshot.ready and not snapshot.is_stale(clock.now()):
            names.append(snapshot.master.host.name if snapshot.master else None)
        publish(snapshot)

    watched.latest.publish = noting  # type: ignore[method-assign]
    return names


def test_a_suspend_while_all_hosts_were_connecting(
    watch: Callable[..., Watched], suspend: Callable[[float], None]
) -> None:
    """Meanwhile b was promoted; a is back on its old timeline and responds first."""
    a, b, c = FakeProbe("master"), FakeProbe(), FakeProbe()
    watched = watch(a, b, c, sleep=0.1)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    for probe in (a, b, c):
        probe.held = True
    wait_until("all are connecting", lambda: a.at_once == b.at_once == c.at_once == 1)
    names = masters_while_ready(watched)
    suspend(100)
    b.behaviour, b.timeline = "master", 2
    checks = a.checks
    a.held = False
    wait_until("a was checked", lambda: a.checks > checks + 1)
    b.held = c.held = False
    wait_until("the promoted host is the master", lambda: watched.master() == "b", timeout=5)
    assert set(names) == {"b"}


def test_a_check_during_a_suspend_does_not_count(
    watch: Callable[..., Watched], suspend: Callable[[float], None]
) -> None:
    """The response that b sent before its promotion arrives after the suspend."""
    a, b, c = FakeProbe("master"), FakeProbe(), FakeProbe()
    watched = watch(a, b, c, sleep=0.1)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    b.takes = 0.5
    wait_until("b is being checked", lambda: b.checks > 1 and b.at_once == 1)
    asked = b.checks
    names = masters_while_ready(watched)
    suspend(100)
    wait_until("it has responded", lambda: b.checks > asked, timeout=5)
    b.behaviour, b.timeline = "master", 2
    wait_until("the promoted host is the master", lambda: watched.master() == "b", timeout=5)
    assert set(names) == {"b"}


def test_evidence_expires_between_two_rounds(
    watch: Callable[..., Watched], suspend: Callable[[float], None]
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60, max_staleness=10)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[1].behaviour = "refusing"
    watched.lose_connection(1)
    wait_until("it fails", lambda: watched.latest.read().hosts[1].possible_dead)
    suspend(11)
    wait_until("it is forgotten", lambda: not watched.latest.read().hosts[1].alive, timeout=5)


def test_a_position_check_wakes_a_waiting_request(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    question = Thresholds().question(Kind.REPLICA, min_lsn=2000)
    waiting = threading.Thread(target=watched.wait, args=(question, 30.0))
    waiting.start()
    wait_until("position checks", lambda: watched.probes[1].checks > 5)
    watched.probes[2].lsn = 2000
    waiting.join(5)
    assert not waiting.is_alive()
    assert watched.latest.read().hosts[2].lsn == 2000


def test_no_host_is_queried_twice_at_a_time(watch: Callable[..., Watched]) -> None:
    probes = FakeProbe("master"), FakeProbe(takes=0.002), FakeProbe(takes=0.002)
    watched = watch(*probes, sleep=0.003)
    question = Thresholds().question(Kind.REPLICA, min_lsn=2000)
    waiting = [threading.Thread(target=watched.wait, args=(question, 0.5)) for _ in range(20)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert [probe.most_at_once for probe in probes] == [1, 1, 1]
    assert not watched.failed.is_set()


def test_position_checks_do_not_displace_the_rounds(watch: Callable[..., Watched]) -> None:
    """A request waits permanently, and a check takes half as long as the pause."""
    primary, slow = FakeProbe("master"), FakeProbe(takes=0.05)
    watched = watch(primary, slow, sleep=0.1)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    question = Thresholds().question(Kind.REPLICA, min_lsn=10**9)
    waiting = threading.Thread(target=watched.wait, args=(question, 5.0))
    waiting.start()
    primary.lsn = 10**8  # from here on the replica does not replay
    wait_until("it is late", lambda: not watched.latest.read().hosts[1].sync_by_bytes, timeout=4)
    slow.lsn = 10**9
    waiting.join()


def test_no_request_waits_beyond_the_limit() -> None:
    assert Waiters(0).add(Thresholds().question(Kind.REPLICA, min_lsn=1), lambda: None) is None


def test_an_unexpected_exception_is_a_failed_check_of_that_host(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe("defect"), sleep=0.02)
    wait_until("the check fails", lambda: watched.latest.read().hosts[1].error)
    error = watched.latest.read().hosts[1].error
    assert error == "unexpected ZeroDivisionError during the check: a defect"
    assert watched.master() == "a"
    assert not watched.failed.is_set()


def test_a_result_that_cannot_be_evaluated_is_a_failed_check(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold(state: State, index: int, result: Observation | Failure, *rest: Any) -> State:
        if isinstance(result, Observation) and index == 1:
            raise OverflowError("too large")
        return tracker.fold(state, index, result, *rest)

    monkeypatch.setattr(evaluation, "fold", fold)
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=0.02)
    wait_until("the check fails", lambda: watched.latest.read().hosts[1].error)
    assert "too large" in (watched.latest.read().hosts[1].error or "")
    assert watched.master() == "a"


def test_after_a_defect_another_monitor_continues(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = watch(FakeProbe("master"), FakeProbe(), sleep=0.02)
    wait_until("the first round", lambda: first.in_sync() == 2)

    def fold(*arguments: object) -> State:
        raise ZeroDivisionError

    monkeypatch.setattr(evaluation, "fold", fold)
    assert first.failed.wait(5)
    assert all(probe.closed for probe in first.probes)
    monkeypatch.undo()
    silent = FakeProbe("frozen")
    second = watch(
        FakeProbe("master"), silent, sleep=0.02, before=first.monitor.state, latest=first.latest
    )
    wait_until("some rounds", lambda: second.probes[0].checks > 5)
    assert not second.latest.read().ready
    assert second.master() is None
    silent.behaviour = "replica"
    silent.let_go()
    wait_until("all hosts were checked", lambda: second.master() == "a")


def test_each_change_is_one_update_after_the_snapshot_was_published(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=0.02)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[1].behaviour = "refusing"
    wait_until("it fails", lambda: watched.latest.read().hosts[1].possible_dead)
    watched.stop()
    updates = watched.sink.updates
    assert [update.after for update in updates] == watched.sink.latest
    assert all(earlier.after is later.before for earlier, later in pairwise(updates))
    health = [e for u in updates for e in u.events if e.change is Change.HEALTH and "b" in e.text]
    assert len(health) == 2  # alive, possibly dead


def test_the_heartbeat_does_not_depend_on_updates(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("frozen"), sleep=60)
    wait_until("three heartbeats", lambda: watched.beats >= 3, timeout=4)
    assert watched.sink.updates == []


def test_the_duration_of_a_check_includes_the_login(watch: Callable[..., Watched]) -> None:
    connecting = FakeProbe("master")
    connecting.held = True
    watched = watch(connecting)
    began = clock.now()
    wait_until("it is connecting", lambda: connecting.at_once == 1)
    time.sleep(0.1)
    connecting.held = False
    wait_until("the check ends", lambda: watched.sink.durations)
    [(host, seconds)] = watched.sink.durations
    assert host == "a"
    assert 0.1 <= seconds <= clock.now() - began


def test_stop_returns_although_the_sink_is_blocked(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"))
    wait_until("the first round", lambda: watched.master() == "a")
    watched.probes[0].loop.call_soon_threadsafe(time.sleep, 1.0)
    began = clock.now()
    watched.monitor.stop()
    assert not watched.monitor.wait(0.1)
    assert clock.now() - began < 0.5


def test_a_break_does_not_postpone_the_check_that_an_earlier_one_caused() -> None:
    """Each break used to move the next check further into the future, without a limit."""
    schedule = Schedule(sleep=5.0, failover_sleep=0.1)
    lost = LostConnections(schedule.patience, schedule.sleep)
    now = 0.0
    while now < 60:
        lost.lost(0, now)
        assert lost.due(now) or lost.next(now) - now <= schedule.sleep
        if lost.due(now):
            lost.begun(0, now)
        now += 0.01


def test_a_connection_that_breaks_during_a_check_costs_no_cpu_time(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), sleep=60)
    wait_until("the first round", lambda: watched.master() == "a")
    watched.probes[0].behaviour = "frozen"
    watched.probes[0].lose_connection()
    wait_until("the check", lambda: watched.probes[0].waits)
    watched.probes[0].lose_connection()
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.25
    watched.probes[0].behaviour = "master"
    checks = watched.probes[0].checks
    watched.probes[0].let_go()
    wait_until("another check", lambda: watched.probes[0].checks > checks, timeout=5)


def test_without_descriptors_the_thread_waits(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_loop() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", no_loop)
        watched = watch(FakeProbe("master"))
        wait_until("heartbeats", lambda: watched.beats > 1, timeout=5)
    wait_until("the first round", lambda: watched.master() == "a")
    assert not watched.failed.is_set()


def test_a_failure_after_many_broken_connections_is_noticed_soon(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    for _ in range(100):
        watched.lose_connection(0)
    watched.probes[0].behaviour, watched.probes[1].behaviour = "refusing", "master"
    watched.probes[1].timeline = 2
    watched.lose_connection(0)
    began = clock.now()
    wait_until("the promoted host is the master", lambda: watched.master() == "b", timeout=5)
    assert clock.now() - began < 2
