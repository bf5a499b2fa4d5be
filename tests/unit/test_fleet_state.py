"""What a relay adopts of the memory of its watchers, and what changes with its hosts."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pgstatus.core.snapshot import Failure, Host, Observation
from pgstatus.core.state import Memory, Rules, State
from pgstatus.core.tracker import adopt, fold, list_hosts
from pgstatus.core.view import view
from pgstatus.errors import Cause

PG1, PG2, PG3 = Host("pg1", 5432), Host("pg2", 5432), Host("pg3", 5432)
RULES = Rules(sleep=1.0, max_fails=1, max_staleness=0.0)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MASTER = Observation(
    in_recovery=False,
    lsn=1000,
    timeline=1,
    receiving=False,
    system_identifier=7,
    host_time=0.0,
    replayed_at=None,
    started=0.0,
    finished=0.0,
    control_timeline=1,
)
REPLICA = replace(MASTER, in_recovery=True, receiving=True)
TWO = Memory(7, 2, frozenset({"pg2:5432"}), "pg2:5432", frozenset({"pg2:5432"}))


def known(*values: Observation | None, at: float = 1.0) -> State:
    """The state after one check of each host; None: it failed."""
    state = State.of((PG1, PG2, PG3)[: len(values)])
    for index, value in enumerate(values):
        state = checked(state, index, value, at)
    return state


def checked(state: State, index: int, value: Observation | None, at: float) -> State:
    result = (
        Failure(Cause.CONNECT, "Connection refused", at, at)
        if value is None
        else replace(value, started=at, finished=at)
    )
    return fold(state, index, result, NOON, RULES)


def master_of(state: State) -> str | None:
    found = view(state, RULES).master
    return None if found is None else found.host.name


def test_a_newer_timeline_is_adopted() -> None:
    state = known(MASTER, None)
    assert master_of(state) == "pg1"
    state = adopt(state, TWO, RULES, 2.0)
    assert state.newest_timeline == 2
    assert master_of(state) is None
    assert "timeline 2 exists" in str(view(state, RULES).no_master)


def test_a_first_state_continues_from_it() -> None:
    state = adopt(State.of((PG1, PG2)), TWO, RULES, 0.0)
    assert state.restored
    assert not state.ready
    state = checked(checked(state, 0, MASTER, 1.0), 1, None, 1.0)
    assert state.ready
    assert master_of(state) is None


def test_the_newest_of_several_is_adopted() -> None:
    one = Memory(7, 1, frozenset({"pg1:5432"}), "pg1:5432", frozenset({"pg1:5432"}))
    three = replace(TWO, newest_timeline=3)
    for memories in ((one, three, TWO), (three, TWO, one), (TWO, one, three)):
        state = State.of((PG1, PG2))
        for memory in memories:
            state = adopt(state, memory, RULES, 0.0)
        assert state.newest_timeline == 3


def test_evidence_that_the_host_refutes_has_no_effect() -> None:
    state = known(MASTER, replace(REPLICA, timeline=1))
    assert master_of(adopt(state, TWO, RULES, 2.0)) == "pg1"


def test_evidence_that_the_host_refutes_later_is_discarded() -> None:
    state = adopt(known(MASTER, None), TWO, RULES, 2.0)
    assert master_of(state) is None
    assert master_of(checked(state, 1, REPLICA, 3.0)) == "pg1"


@pytest.mark.parametrize(
    "memory",
    [
        replace(TWO, system_identifier=8),
        replace(TWO, evidence=frozenset({"elsewhere:5432"})),
        replace(TWO, newest_timeline=1, evidence=frozenset({"pg1:5432"}), writers=frozenset()),
    ],
    ids=["another cluster", "other hosts", "an older timeline"],
)
def test_a_memory_without_effect(memory: Memory) -> None:
    state = checked(known(MASTER, REPLICA), 1, replace(MASTER, timeline=2), 2.0)
    assert state.newest_timeline == 2
    assert adopt(state, memory, RULES, 3.0) is state


def test_more_evidence_for_the_same_timeline_is_added() -> None:
    state = known(MASTER, None, REPLICA)
    more = Memory(7, 1, frozenset({"pg2:5432"}), None, frozenset({"pg2:5432"}))
    state = adopt(state, more, RULES, 2.0)
    assert set(state.evidence) == {"pg1:5432", "pg2:5432", "pg3:5432"}
    assert state.writers == {"pg1:5432", "pg2:5432"}


def test_a_host_is_added() -> None:
    state = list_hosts(known(MASTER, REPLICA), (PG3, PG2, PG1), RULES, 2.0)
    assert state.ready
    assert master_of(state) == "pg1"
    snapshot = view(state, RULES)
    assert [status.host for status in snapshot.hosts] == [PG3, PG2, PG1]
    assert [status.alive for status in snapshot.hosts] == [False, True, True]


def test_a_host_is_removed() -> None:
    state = known(MASTER, REPLICA, REPLICA)
    assert master_of(list_hosts(state, (PG1, PG3), RULES, 2.0)) == "pg1"
    without = list_hosts(state, (PG2, PG3), RULES, 2.0)
    assert master_of(without) is None
    assert without.ready
    assert "pg1:5432" not in without.evidence


def test_an_instance_that_is_a_relay_no_more_names_no_watchers() -> None:
    state = known(MASTER).reported_by(0, "w1", (("w1", None), ("w2", "Connection refused")))
    (host,) = view(state.among(state.hosts), RULES).hosts
    assert host.watcher is None
    assert not host.watchers
