"""The monitoring thread: when it asks, that nothing holds it up, and how it ends."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from math import log2

import pytest

from pgstatus import clock
from pgstatus.core.schedule import Schedule
from pgstatus.core.selection import Kind, Place, Thresholds, choose
from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.core.state import Rules
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.monitor import Monitor
from pgstatus.monitor.waiters import Waiters
from tests.support.fakes import FakeProbe
from tests.support.waiting import wait_until


class Watched:
    """A running monitor of fake hosts."""

    def __init__(self, *probes: FakeProbe, sleep: float, max_staleness: float) -> None:
        self.probes = probes
        self.died = threading.Event()
        hosts = [Host(name, 5432) for name in "abc"[: len(probes)]]
        rules = Rules(sleep=sleep, max_staleness=max_staleness)
        self.board = Latest(hosts, rules)
        self.waiters = Waiters(100)

        def probe(index: int, on_lost: Callable[[], None]) -> FakeProbe:
            probes[index].on_lost = on_lost
            return probes[index]

        self.monitor = Monitor(
            hosts=hosts,
            probes=probe,
            board=self.board,
            waiters=self.waiters,
            rules=rules,
            schedule=Schedule(sleep, failover_sleep=min(sleep, 0.01)),
            on_death=self.died.set,
        )
        self.monitor.start()

    def master(self) -> str | None:
        master = self.board.read().master
        return master.host.name if master else None

    def lose_connection(self, index: int) -> None:
        """Break it, and let the loop run for longer than the shortest pause."""
        loop = self.monitor._loop
        assert loop is not None
        loop.call_soon_threadsafe(self.probes[index].on_lost)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result(5)

    def in_sync(self) -> int:
        return sum(status.sync_by_time for status in self.board.read().hosts)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """``watch(FakeProbe("master"), FakeProbe(), sleep=60)``"""
    running: list[Watched] = []

    def watch(*probes: FakeProbe, sleep: float = 60.0, max_staleness: float = 30.0) -> Watched:
        running.append(Watched(*probes, sleep=sleep, max_staleness=max_staleness))
        return running[-1]

    yield watch
    for watched in running:
        watched.monitor.stop()
        assert all(probe.closed for probe in watched.probes)


def test_a_frozen_host_delays_no_other(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe(), FakeProbe("master"), FakeProbe(), sleep=0.02)
    frozen, *others = watched.probes
    wait_until("the first round", lambda: watched.in_sync() == 3)
    frozen.behaviour = "frozen"
    wait_until("it is being asked", lambda: frozen.at_once == 1 and frozen.waits)
    before = [frozen.checks, *(probe.checks for probe in others)]
    wait_until(
        "ten rounds",
        lambda: min(p.checks - n for p, n in zip(others, before[1:], strict=True)) > 10,
    )
    assert frozen.checks == before[0]
    assert watched.master() == "b"


def test_nobody_is_named_before_everybody_was_asked(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("frozen"), FakeProbe("master"), FakeProbe(), sleep=0.02)
    wait_until("ten rounds", lambda: watched.probes[1].checks > 10 < watched.probes[2].checks)
    assert watched.master() is None
    assert not watched.board.read().ready
    assert watched.board.read().no_master == "not every host has been checked yet"


def test_a_lost_connection_begins_a_round_at_once(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    old, heir = watched.probes
    old.behaviour, heir.behaviour, heir.timeline = "refusing", "master", 2
    watched.lose_connection(0)
    wait_until("the heir is named", lambda: watched.master() == "b", timeout=5)


def test_connections_that_break_all_the_time_do_not_make_it_spin(
    watch: Callable[..., Watched],
) -> None:
    """The pauses between the looks that they are the reason of double: 10, 20, 40 … ms."""
    watched = watch(FakeProbe("master"), sleep=60)
    wait_until("the first round", lambda: watched.master() == "a")
    checks = watched.probes[0].checks
    began = clock.now()
    for _ in range(20):
        watched.lose_connection(0)
    took = clock.now() - began
    assert 2 <= watched.probes[0].checks - checks <= 3 + log2(took / 0.01)


@pytest.mark.parametrize("breaks_before", [1, 3])
def test_a_connection_that_broke_a_moment_ago_hides_no_crash(
    watch: Callable[..., Watched], breaks_before: int
) -> None:
    """Somebody ended our session, and then the host crashes for good."""
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    for _ in range(breaks_before):
        watched.lose_connection(0)
    watched.probes[0].behaviour, watched.probes[1].behaviour = "refusing", "master"
    watched.probes[1].timeline = 2
    watched.lose_connection(0)
    wait_until("the promoted one is named", lambda: watched.master() == "b", timeout=5)


def test_a_host_that_crashes_again_is_seen_again(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    for _ in range(8):
        watched.probes[0].behaviour = "refusing"
        watched.lose_connection(0)
        wait_until("it is ill", lambda: watched.board.read().hosts[0].possible_dead, timeout=5)
        watched.probes[0].behaviour = "master"
        wait_until("it is well", lambda: not watched.board.read().hosts[0].possible_dead, timeout=5)


def test_without_a_master_it_looks_again_soon(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("refusing"), FakeProbe(), sleep=60)
    wait_until("many rounds", lambda: watched.probes[0].checks > 10)
    watched.probes[1].behaviour = "master"
    wait_until("the promoted one is named", lambda: watched.master() == "b", timeout=5)


def test_an_overdue_master_makes_it_look_for_another(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=1)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[0].behaviour = "frozen"
    frozen_at = watched.probes[1].checks
    wait_until("the fast schedule", lambda: watched.probes[1].checks > frozen_at + 10, timeout=5)


def test_an_overdue_replica_is_not_named_where_there_is_another(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), FakeProbe(), sleep=0.2)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    watched.probes[1].behaviour = "frozen"
    wait_until("it is suspected", lambda: watched.board.read().hosts[1].possible_dead, timeout=5)
    status = watched.board.read().hosts[1]
    assert "no response for 0." in (status.error or "")
    question = Thresholds().question(Kind.SYNC_BY_TIME)
    assert [s.host.name for s in choose(watched.board.read(), question, Place()).hosts] == ["c"]


def test_a_slow_answer_clears_the_replica(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=0.2)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[1].takes = 1.0
    wait_until("it is suspected", lambda: watched.board.read().hosts[1].possible_dead, timeout=5)
    wait_until("it is trusted", lambda: not watched.board.read().hosts[1].possible_dead, timeout=5)
    assert watched.board.read().hosts[1].error is None


def test_no_host_is_suspected_because_we_slept(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(takes=0.1), sleep=0.2)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    checks = watched.probes[1].checks
    wait_until("a check is under way", lambda: watched.probes[1].at_once == 1)
    seen: list[bool] = []

    def publish(snapshot: Snapshot) -> None:
        seen.append(snapshot.hosts[1].possible_dead)

    watched.board.publish = publish  # type: ignore[method-assign]
    # The whole loop stands still while the answer comes in.
    watched.monitor._loop.call_soon_threadsafe(time.sleep, 1.0)  # type: ignore[union-attr]
    wait_until("the next checks", lambda: watched.probes[1].checks > checks + 2, timeout=5)
    assert not any(seen)
    assert seen


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock find that the machine has slept for so many seconds."""
    running = clock.now

    def suspend(seconds: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: running() + seconds)

    return suspend


def named_while_ready(watched: Watched) -> list[str | None]:
    """From now on: whom each snapshot names that may be served."""
    names: list[str | None] = []
    publish = watched.board.publish

    def noting(snapshot: Snapshot) -> None:
        if snapshot.ready and not snapshot.is_stale(clock.now()):
            names.append(snapshot.master.host.name if snapshot.master else None)
        publish(snapshot)

    watched.board.publish = noting  # type: ignore[method-assign]
    return names


def test_a_sleep_while_everybody_was_connecting(
    watch: Callable[..., Watched], suspend: Callable[[float], None]
) -> None:
    """b was promoted meanwhile; a is back on its old timeline, and the first to answer."""
    a, b, c = FakeProbe("master"), FakeProbe(), FakeProbe()
    watched = watch(a, b, c, sleep=0.1)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    for probe in (a, b, c):
        probe.held = True
    wait_until("all are connecting", lambda: a.at_once == b.at_once == c.at_once == 1)
    names = named_while_ready(watched)
    suspend(100)
    b.behaviour, b.timeline = "master", 2
    checks = a.checks
    a.held = False
    wait_until("a was asked", lambda: a.checks > checks + 1)
    b.held = c.held = False
    wait_until("the new master is named", lambda: watched.master() == "b", timeout=5)
    assert set(names) == {"b"}


def test_a_check_that_a_sleep_went_through_is_none(
    watch: Callable[..., Watched], suspend: Callable[[float], None]
) -> None:
    """b said, before it was promoted, that it is a replica; we hear it after the sleep."""
    a, b, c = FakeProbe("master"), FakeProbe(), FakeProbe()
    watched = watch(a, b, c, sleep=0.1)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    b.takes = 0.5
    wait_until("b is being asked", lambda: b.checks > 1 and b.at_once == 1)
    asked = b.checks
    names = named_while_ready(watched)
    suspend(100)
    wait_until("it has answered", lambda: b.checks > asked, timeout=5)
    b.behaviour, b.timeline = "master", 2
    wait_until("the new master is named", lambda: watched.master() == "b", timeout=5)
    assert set(names) == {"b"}


def test_evidence_grows_old_between_two_rounds(
    watch: Callable[..., Watched], suspend: Callable[[float], None]
) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), sleep=60, max_staleness=10)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    watched.probes[1].behaviour = "refusing"
    watched.lose_connection(1)
    wait_until("it fails", lambda: watched.board.read().hosts[1].possible_dead)
    suspend(11)
    wait_until("it is forgotten", lambda: not watched.board.read().hosts[1].alive, timeout=5)


def test_who_waits_is_woken_by_a_glance(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe(), FakeProbe(), sleep=60)
    wait_until("the first round", lambda: watched.in_sync() == 3)
    question = Thresholds().question(Kind.REPLICA, min_lsn=2000)
    waiting = threading.Thread(target=watched.waiters.wait, args=(question, 30.0))
    waiting.start()
    wait_until("glances", lambda: watched.probes[1].checks > 5)
    watched.probes[2].lsn = 2000
    waiting.join(5)
    assert not waiting.is_alive()
    assert watched.board.read().hosts[2].lsn == 2000


def test_rounds_and_glances_never_ask_a_host_twice_at_once(watch: Callable[..., Watched]) -> None:
    probes = FakeProbe("master"), FakeProbe(takes=0.002), FakeProbe(takes=0.002)
    watched = watch(*probes, sleep=0.003)
    question = Thresholds().question(Kind.REPLICA, min_lsn=2000)
    waiting = [
        threading.Thread(target=watched.waiters.wait, args=(question, 0.5)) for _ in range(20)
    ]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert [probe.most_at_once for probe in probes] == [1, 1, 1]
    assert not watched.died.is_set()


def test_glances_do_not_starve_the_rounds(watch: Callable[..., Watched]) -> None:
    """Somebody waits all the time, and a check takes as long as half the pause."""
    primary, slow = FakeProbe("master"), FakeProbe(takes=0.05)
    watched = watch(primary, slow, sleep=0.1)
    wait_until("the first round", lambda: watched.in_sync() == 2)
    question = Thresholds().question(Kind.REPLICA, min_lsn=10**9)
    waiting = threading.Thread(target=watched.waiters.wait, args=(question, 5.0))
    waiting.start()
    primary.lsn = 10**8  # from here on the replica stands still
    wait_until("it is late", lambda: not watched.board.read().hosts[1].sync_by_bytes, timeout=4)
    slow.lsn = 10**9
    waiting.join()


def test_a_full_parking_turns_away_at_once() -> None:
    waiters = Waiters(0)
    began = clock.now()
    waiters.wait(Thresholds().question(Kind.REPLICA, min_lsn=1), 60)
    assert clock.now() - began < 10


def test_a_defect_is_the_end(watch: Callable[..., Watched]) -> None:
    watched = watch(FakeProbe("master"), FakeProbe("defect"))
    assert watched.died.wait(5)
