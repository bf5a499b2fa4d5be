"""Which results of several watchers count."""

from dataclasses import dataclass, field, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.snapshot import Failure, Host, Observation, Position
from pgstatus.core.state import Look, Memory
from pgstatus.errors import Cause
from pgstatus.fleet.document import Document, Result, Value
from pgstatus.fleet.evidence import SILENCE
from pgstatus.fleet.merge import Counted, Merge

PG1, PG2 = Host("pg1", 5432), Host("pg2", 5432)
SEEN = Observation(
    in_recovery=False,
    lsn=100,
    timeline=1,
    receiving=False,
    system_identifier=7,
    host_time=0.0,
    replayed_at=None,
    started=0.0,
    finished=0.0,
)
ROUNDING = 1e-4


def seen(started: float, finished: float | None = None, **facts: object) -> Observation:
    finished = started + 0.01 if finished is None else finished
    return replace(SEEN, started=started, finished=finished, **facts)  # type: ignore[arg-type]


def failed(started: float, finished: float | None = None) -> Failure:
    finished = started + 0.01 if finished is None else finished
    return Failure(Cause.CONNECT, "Connection refused", started, finished)


def values(counted: list[Counted]) -> list[tuple[str, float]]:
    """What counts: the watcher, and the second in which the check began."""
    return [(c.watcher, round(c.value.started, 2)) for c in counted]


class Watchers:
    """Watchers whose clocks differ from the relay's; documents arrive at once."""

    def __init__(self) -> None:
        self.offsets = {"w1": 1000.0, "w2": -500.0, "w3": 77.0}
        self.merge = Merge(self.offsets)
        self.connected: set[str] = set()
        self.now = 0.0

    def send(
        self,
        watcher: str,
        at: float,
        *results: Value | tuple[Host, Value],
        hosts: tuple[Host, ...] = (PG1,),
        memory: Memory | None = None,
        ready: bool = True,
        interval: float = 1.0,
        look: Look = Look.ROUND,
        epoch: str = "",
    ) -> list[Counted]:
        """A document with results of ``PG1``, whose times are those of the relay."""
        self.now = at
        offset = self.offsets[watcher]
        epoch = epoch or f"epoch of {watcher}"
        is_first = epoch not in self.connected
        self.connected.add(epoch)
        found = []
        for result in results:
            host, value = result if isinstance(result, tuple) else (PG1, result)
            if value is not None:
                value = replace(
                    value, started=value.started + offset, finished=value.finished + offset
                )
            found.append(Result(host, look, value))
        if is_first:
            found += [Result(host, Look.ROUND, None) for host in hosts]
        document = Document(
            watcher=epoch,
            name=watcher,
            version="1",
            sent=at + offset,
            complete=is_first,
            results=tuple(found),
            memory=memory,
            ready=ready,
            interval=interval,
        )
        return self.merge.received(watcher, document, at, at if is_first else -inf)


@pytest.fixture
def watchers() -> Watchers:
    watchers = Watchers()
    for name in ("w1", "w2", "w3"):
        watchers.send(name, 0.0)
    return watchers


def test_the_newest_success_counts(watchers: Watchers) -> None:
    assert values(watchers.send("w1", 10.1, seen(10.0))) == [("w1", 10.0)]
    assert values(watchers.send("w2", 10.2, seen(9.0))) == []
    assert values(watchers.send("w2", 10.3, seen(10.2))) == [("w2", 10.2)]


def test_overlapping_checks_of_two_watchers_are_not_ordered(watchers: Watchers) -> None:
    watchers.send("w1", 10.1, seen(10.0, 10.1))
    assert watchers.send("w2", 10.2, seen(10.05, 10.2)) == []


def test_all_pending_failures_count(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9))
    for second in (10.1, 10.6, 11.1):
        assert watchers.send("w1", second + 0.1, failed(second)) == []
    # The interval and 0.75 s have passed.
    assert watchers.merge.next(11.3) == pytest.approx(11.65, abs=0.01)
    assert values(watchers.merge.due(11.7)) == [("w1", 10.1), ("w1", 10.6), ("w1", 11.1)]
    assert watchers.merge.due(11.7) == []


def test_pending_failures_before_a_success_never_count(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9))
    for second in (10.1, 10.6):
        watchers.send("w1", second + 0.1, failed(second))
    watchers.send("w2", 10.7, seen(10.3))
    counted = values(watchers.send("w2", 10.8, failed(10.75)))
    assert counted == [("w1", 10.6), ("w2", 10.75)]


def test_a_watcher_that_was_restored_from_a_snapshot_is_another_one(watchers: Watchers) -> None:
    watchers.send("w1", 10.1, seen(10.0))
    watchers.offsets["w1"] -= 100.0
    watchers.connected.clear()
    assert values(watchers.send("w1", 20.1, seen(20.0))) == [("w1", 20.0)]


def test_clocks_of_two_watchers_with_the_same_epoch_are_not_compared(watchers: Watchers) -> None:
    """A virtual machine was cloned."""
    assert values(watchers.send("w1", 10.1, seen(10.0), epoch="a")) == [("w1", 10.0)]
    watchers.connected.clear()
    assert values(watchers.send("w2", 10.3, seen(10.2), epoch="a")) == [("w2", 10.2)]


def test_a_result_counts_once(watchers: Watchers) -> None:
    assert len(watchers.send("w1", 10.1, seen(10.0))) == 1
    assert watchers.send("w1", 10.2, seen(10.0)) == []
    assert len(watchers.send("w1", 10.3, failed(10.25))) == 1
    assert watchers.send("w1", 10.4, failed(10.25)) == []


def test_a_failure_counts_if_no_other_watcher_has_a_result(watchers: Watchers) -> None:
    assert values(watchers.send("w1", 10.1, failed(10.0))) == [("w1", 10.0)]


def test_a_failure_is_pending_while_another_success_is_current(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9))
    assert watchers.send("w1", 10.2, failed(10.1)) == []
    assert watchers.merge.due(10.3) == []
    # The next check of the other watcher has found the same.
    counted = watchers.send("w2", 11.0, failed(10.9))
    assert values(counted) == [("w1", 10.1), ("w2", 10.9)]


def test_a_failure_counts_when_the_success_is_not_current_any_more(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9))
    watchers.send("w1", 10.2, failed(10.1))
    due = watchers.merge.next(10.2)
    assert 10.9 < due < 12
    assert watchers.merge.due(due - 0.01) == []
    assert values(watchers.merge.due(due + 0.01)) == [("w1", 10.1)]


def test_the_interval_of_the_other_watcher_decides(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9), interval=2.0)
    watchers.send("w1", 10.2, failed(10.1))
    assert watchers.merge.due(11.9) == []
    assert values(watchers.merge.due(12.9)) == [("w1", 10.1)]


def test_a_later_success_refutes_a_failure(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9))
    watchers.send("w1", 10.2, failed(10.1))
    assert values(watchers.send("w2", 10.9, seen(10.8))) == [("w2", 10.8)]
    for step in range(30):
        watchers.send("w3", 11 + step / 10)
        assert watchers.merge.due(11 + step / 10) == []


def test_a_watcher_that_cannot_reach_a_host_does_not_make_it_fail(watchers: Watchers) -> None:
    for second in range(10, 40):
        assert values(watchers.send("w2", second + 0.1, seen(second))) == [("w2", second)]
        assert watchers.send("w1", second + 0.3, failed(second + 0.2)) == []
        assert watchers.merge.due(second + 0.9) == []
        assert watchers.merge.watchers_of(PG1.address, second + 0.9) == (
            ("w1", "Connection refused"),
            ("w2", None),
        )


def test_watchers_that_agree_are_not_reported(watchers: Watchers) -> None:
    watchers.send("w1", 10.1, seen(10.0))
    watchers.send("w2", 10.1, seen(10.0))
    assert watchers.merge.watchers_of(PG1.address, 10.2) == ()


def test_a_silent_watcher_has_no_vote(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9), interval=60.0)
    watchers.send("w1", 10.2, failed(10.1))
    assert watchers.merge.due(12.9) == []
    assert values(watchers.send("w1", 13.2, failed(13.1))) == [("w1", 10.1), ("w1", 13.1)]


def test_a_lost_watcher_has_no_vote(watchers: Watchers) -> None:
    watchers.send("w2", 10.0, seen(9.9))
    watchers.send("w1", 10.2, failed(10.1))
    watchers.merge.lost("w2")
    assert values(watchers.merge.due(10.3)) == [("w1", 10.1)]


def test_documents_that_waited_in_a_buffer_have_no_vote(watchers: Watchers) -> None:
    offset = watchers.offsets["w2"]
    watchers.send("w1", 20.0, seen(19.9))
    old = Document(
        watcher="epoch of w2",
        name="w2",
        version="1",
        sent=11.0 + offset,
        complete=False,
        results=(
            Result(PG1, Look.ROUND, failed(10.9 + offset)),
            Result(PG2, Look.ROUND, seen(10.9 + offset)),
        ),
        memory=None,
        ready=True,
    )
    counted = watchers.merge.received("w2", old, 20.1)
    assert [c.address for c in counted] == [PG2.address]
    assert counted[0].value.started == pytest.approx(10.9, abs=0.01)
    assert [watcher.name for watcher in watchers.merge.live(20.1)] == ["w1"]


def test_a_later_failure_counts_again_after_an_older_success_arrived(watchers: Watchers) -> None:
    assert len(watchers.send("w1", 10.6, failed(10.5))) == 1
    assert len(watchers.send("w2", 10.7, seen(10.2))) == 1
    assert watchers.merge.due(10.8) == []
    for step in range(20):
        watchers.send("w1", 10.9 + step / 10)
    assert values(watchers.merge.due(12.9)) == [("w1", 10.5)]


def test_positions_count_in_their_order(watchers: Watchers) -> None:
    replica = seen(10.0, in_recovery=True)
    watchers.send("w1", 10.1, replica)
    position = Position(True, 200, 10.2, 10.201)
    assert len(watchers.send("w2", 10.3, position, look=Look.POSITION)) == 1
    assert watchers.send("w1", 10.4, seen(10.15, 10.19)) == []


def test_what_depends_on_the_watcher_is_combined(watchers: Watchers) -> None:
    watchers.send("w1", 10.1, seen(10.0, addresses=frozenset({"a"}), admits=True))
    (counted,) = watchers.send(
        "w2", 10.3, seen(10.2, addresses=frozenset({"b"}), admits=False, refusal="full")
    )
    assert isinstance(counted.value, Observation)
    assert counted.value.addresses == {"a", "b"}
    assert counted.value.admits
    assert counted.value.refusal is None


def test_hosts_are_those_of_all_live_watchers() -> None:
    watchers = Watchers()
    assert watchers.merge.hosts(0.0) == ()
    watchers.send("w2", 1.0, hosts=(PG2,))
    watchers.send("w1", 1.0, hosts=(PG1, PG2))
    assert watchers.merge.hosts(1.0) == (PG1, PG2)
    watchers.send("w2", 1.0 + SILENCE, hosts=(PG2,))
    assert watchers.merge.hosts(1.5 + SILENCE) == (PG2,)


def test_what_a_watcher_has_reported_of_a_removed_host_is_forgotten(watchers: Watchers) -> None:
    watchers.send("w1", 10.1, failed(10.0))
    watchers.send("w2", 10.1, seen(10.0))
    assert watchers.merge.watchers_of(PG1.address, 10.2)
    # As after a reload: the process is the same, the stream begins again.
    watchers.connected.clear()
    watchers.send("w1", 10.3, hosts=(PG2,))
    assert watchers.merge.watchers_of(PG1.address, 10.4) == ()
    assert watchers.merge.hosts(10.4) == (PG2, PG1)


def test_a_restarted_watcher_is_another_one(watchers: Watchers) -> None:
    watchers.send("w1", 10.1, failed(10.0))
    watchers.offsets["w1"] = -12345.0
    assert values(watchers.send("w1", 11.1, seen(11.0), epoch="another")) == [("w1", 11.0)]
    assert watchers.merge.watchers_of(PG1.address, 11.2) == ()


def test_only_what_is_new_in_a_memory_is_adopted(watchers: Watchers) -> None:
    memory = Memory(7, 2, frozenset({"pg1:5432"}), writers=frozenset({"pg1:5432"}))
    watchers.send("w1", 10.0, memory=memory)
    assert watchers.merge.memories() == [memory]
    watchers.send("w1", 11.0, memory=memory)
    assert watchers.merge.memories() == []
    more = replace(memory, evidence=frozenset({"pg1:5432", "pg2:5432"}))
    watchers.send("w1", 12.0, memory=more)
    assert watchers.merge.memories() == [replace(more, evidence=frozenset({"pg2:5432"}))]
    newer = replace(more, newest_timeline=3)
    watchers.send("w1", 13.0, memory=newer)
    assert watchers.merge.memories() == [newer]


# Random watchers: delays, freezes, and hosts that some of them cannot reach.


@dataclass
class Check:
    watcher: int
    pause: float
    takes: float
    fails: bool
    delay: float
    """Between the end of the check and the arrival of the document."""


@dataclass
class Known:
    """What the relay was told by one watcher, in true times."""

    sent: float = -inf
    started: float = -inf
    fails: bool = False
    has_result: bool = False
    busy_until: float = 0.0
    arrived: float = 0.0
    interval: float = 1.0
    results: list[float] = field(default_factory=list)


CHECKS = st.lists(
    st.builds(
        Check,
        watcher=st.integers(0, 2),
        pause=st.floats(0, 1),
        takes=st.floats(0.001, 1),
        fails=st.booleans(),
        delay=st.sampled_from([0.0, 0.001, 0.2, 2.0, 10.0]),
    ),
    max_size=60,
)


@given(checks=CHECKS, fastest=st.floats(0, 0.1))
def test_random_watchers(checks: list[Check], fastest: float) -> None:
    offsets = [1000.0, -50.0, 0.0]
    merge, known = Merge(["0", "1", "2"]), [Known() for _ in offsets]
    arrivals: list[tuple[float, int, Check, float, float]] = []
    now = 100.0
    for number, check in enumerate(checks):
        now += check.pause
        watcher = known[check.watcher]
        started = max(now, watcher.busy_until)
        finished = watcher.busy_until = started + check.takes
        watcher.arrived = max(watcher.arrived, finished + fastest + check.delay)
        arrivals.append((watcher.arrived, number, check, started, finished))
    # Each watcher is connected before: the relay knows its clock.
    for number, offset in enumerate(offsets):
        document = _document(number, 99.0 + offset, True, Result(PG1, Look.ROUND, None))
        merge.received(str(number), document, 99.0 + fastest, 99.0)
    ends: dict[int, float] = {}
    last_success = -inf
    for arrived, _, check, started, finished in sorted(arrivals):
        offset, watcher = offsets[check.watcher], known[check.watcher]
        value: Observation | Failure = (failed if check.fails else seen)(
            started + offset, finished + offset
        )
        counted = merge.due(arrived) if ends else []
        _verify(counted, known, arrived, fastest)
        watcher.sent, watcher.started = finished, started
        watcher.fails, watcher.has_result = check.fails, True
        document = _document(
            check.watcher, finished + offset, False, Result(PG1, Look.ROUND, value)
        )
        counted = merge.received(str(check.watcher), document, arrived)
        _verify(counted, known, arrived, fastest)
        for result in counted:
            if isinstance(result.value, Observation):
                # It is certain that this check began after the last one that counted had ended.
                assert started >= last_success - ROUNDING
                last_success = finished
                assert result.value.started <= started + ROUNDING
                assert result.value.finished >= min(arrived, finished) - ROUNDING
        ends[check.watcher] = finished


def _document(watcher: int, sent: float, complete: bool, result: Result) -> Document:
    return Document(
        watcher=f"epoch {watcher}",
        name=str(watcher),
        version="1",
        sent=sent,
        complete=complete,
        results=(result,),
        memory=None,
        ready=True,
    )


def _verify(counted: list[Counted], known: list[Known], now: float, fastest: float) -> None:
    """No failure counts while another live watcher has a current success."""
    for result in counted:
        if isinstance(result.value, Failure):
            for other in known:
                is_live = now - other.sent < SILENCE - fastest - ROUNDING
                is_current = now - other.started < other.interval - fastest
                assert not (
                    str(known.index(other)) != result.watcher
                    and is_live
                    and other.has_result
                    and not other.fails
                    and is_current
                )
