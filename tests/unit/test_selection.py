"""Which hosts answer a question, as tables over snapshots."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.selection import (
    Fallback,
    Kind,
    Place,
    Question,
    Thresholds,
    Turns,
    choose,
    objection,
)
from pgstatus.core.snapshot import Host, HostStatus, Role, Snapshot

THRESHOLDS = Thresholds(lag_ms=1000, lag_bytes=1_000_000)


def host(name: str, **changes: object) -> HostStatus:
    place = {key: changes.pop(key) for key in ("dc", "geo") if key in changes}
    values: dict[str, object] = {
        "host": Host(name, 5432, **place),  # type: ignore[arg-type]
        "role": Role.REPLICA,
        "alive": True,
        "lsn": 1000,
        "timeline": 1,
        "history": 1,
        "lag_ms": 10,
        "lag_bytes": 100,
        "same_history": True,
    }
    return HostStatus(**(values | changes))  # type: ignore[arg-type]


def the_master(**changes: object) -> HostStatus:
    return host("m", role=Role.MASTER, master=True, lag_ms=0, lag_bytes=0, **changes)


def names(question: Question, *hosts: HostStatus, place: Place | None = None) -> str:
    chosen = choose(Snapshot(hosts, ready=True), question, place or Place()).hosts
    return "".join(status.host.name for status in chosen)


def ask(kind: str, fallback: str = "master", **limits: int) -> Question:
    return THRESHOLDS.question(Kind(kind), fallback=Fallback(fallback), **limits)


M = the_master()
ILL_M = the_master(possible_dead=True, error="timeout")
DOWN_M = the_master(possible_dead=True, down=True, error="Connection refused")
LATE = host("l", lag_ms=5000)
LATER = host("k", lag_ms=9000, lsn=900)
ILL_LATE = host("j", lag_ms=9000, lsn=950, possible_dead=True, error="timeout")
FAR = host("f", lag_bytes=5_000_000)
UNKNOWN = host("u", lag_ms=None, lag_bytes=None)
ILL = host("i", possible_dead=True, error="timeout")
ALIEN = host("x", excluded=True)
OTHER = host("o", same_history=False)
DEAD = HostStatus(Host("d", 5432))
T2 = host("t", timeline=2, history=2)
A, B = host("a"), host("b")


@pytest.mark.parametrize(
    ("question", "hosts", "named"),
    [
        pytest.param(ask("master"), [A, M, B], "m", id="the master"),
        pytest.param(ask("master"), [A, ILL_M], "m", id="also a possibly dead one"),
        pytest.param(ask("master"), [A, B], "", id="none"),
        pytest.param(ask("replica"), [M, A, B, LATE, UNKNOWN, OTHER], "abluo", id="any replica"),
        pytest.param(ask("replica"), [M], "m", id="falls back to the master"),
        pytest.param(ask("replica"), [DEAD, ALIEN], "", id="never a dead or foreign one"),
        pytest.param(ask("replica"), [M, A, ILL], "a", id="healthy before possibly dead"),
        pytest.param(ask("replica"), [M, ILL], "m", id="a healthy master before it, too"),
        pytest.param(ask("replica"), [ILL_M, ILL], "i", id="a replica when all are ill"),
        pytest.param(ask("replica"), [ILL_M, DEAD], "m", id="in the end a master that is ill"),
        pytest.param(ask("replica", lag_ms=10), [M, A, LATE, UNKNOWN, OTHER], "a", id="lag_ms"),
        pytest.param(ask("replica", lag_ms=9), [M, A], "m", id="lag_ms of one less"),
        pytest.param(ask("replica", lag_bytes=100), [M, A, FAR, UNKNOWN], "a", id="lag_bytes"),
        pytest.param(ask("replica", min_lsn=1000), [M, A, OTHER], "a", id="min_lsn reached"),
        pytest.param(ask("replica", min_lsn=1001), [M, A, B], "m", id="min_lsn not reached"),
        pytest.param(ask("replica", min_lsn=9, timeline=1), [M, A, T2], "a", id="on timeline 1"),
        pytest.param(ask("replica", min_lsn=9, timeline=2), [M, A], "", id="master is outdated"),
        pytest.param(ask("replica", min_lsn=9, timeline=2), [M, T2], "t", id="on timeline 2"),
        pytest.param(ask("sync_by_time"), [M, A, LATE, FAR, UNKNOWN], "af", id="by time"),
        pytest.param(ask("sync_by_bytes"), [M, A, LATE, FAR, UNKNOWN], "al", id="by bytes"),
        pytest.param(ask("sync_by_time_or_bytes"), [M, A, LATE, FAR, OTHER], "alf", id="or"),
        pytest.param(ask("sync_by_time_and_bytes"), [M, A, LATE, FAR], "a", id="and"),
        pytest.param(ask("sync_by_time", lag_ms=5000), [M, LATE], "l", id="own limit"),
        pytest.param(ask("sync_by_time", lag_bytes=0), [M, A], "a", id="time looks at time only"),
        pytest.param(ask("sync_by_bytes", lag_ms=0), [M, A], "a", id="bytes at bytes only"),
        pytest.param(ask("sync_by_time", min_lsn=1001), [M, A], "m", id="with min_lsn"),
        pytest.param(
            ask("most_sync_by_bytes"), [M, A, host("n", lag_bytes=7), B], "n", id="most in sync"
        ),
        pytest.param(ask("most_sync_by_bytes"), [M, B, A], "b", id="of equals the first"),
        pytest.param(ask("most_sync_by_bytes"), [M, FAR], "m", id="most in sync within limits"),
    ],
)
def test_named(question: Question, hosts: list[HostStatus], named: str) -> None:
    assert names(question, *hosts) == named


@pytest.mark.parametrize(
    ("question", "hosts", "chosen"),
    [
        pytest.param(ask("replica"), [DOWN_M], "", id="never a master that is down"),
        pytest.param(ask("master"), [DOWN_M], "m", id="but /master reports it until it is dead"),
        pytest.param(ask("sync_by_time"), [DOWN_M, LATE], "", id="no limit is exceeded"),
        pytest.param(ask("sync_by_time"), [DOWN_M, ILL], "i", id="possibly dead, within limits"),
        pytest.param(ask("sync_by_time", "stale"), [DOWN_M, LATE], "l stale", id="unless stale"),
        pytest.param(ask("sync_by_time", "stale"), [M, LATE], "m", id="stale: the master first"),
        pytest.param(ask("sync_by_time", "stale"), [ILL_M, LATE], "m", id="stale: possibly dead"),
        pytest.param(
            ask("sync_by_time", "stale"), [LATER, ILL_LATE, LATE], "l stale", id="least late"
        ),
        pytest.param(
            ask("sync_by_time", "stale"),
            [ILL_LATE, LATER],
            "k stale",
            id="healthy before less late",
        ),
        pytest.param(ask("sync_by_time", "stale"), [OTHER, DEAD], "", id="same history only"),
        pytest.param(
            ask("replica", "stale", min_lsn=1001), [DOWN_M, A], "", id="never below min_lsn"
        ),
        pytest.param(
            ask("replica", "stale", min_lsn=9, timeline=2), [DOWN_M, A], "", id="nor its timeline"
        ),
        pytest.param(ask("replica", "none"), [M], "", id="none: not the master"),
        pytest.param(ask("sync_by_time", "none"), [M, A, LATE], "a", id="none: replicas"),
        pytest.param(ask("sync_by_time", "none"), [M, LATE], "", id="none: nor a late replica"),
        pytest.param(ask("sync_by_time", "none"), [M, ILL], "i", id="none: a possibly dead one"),
    ],
)
def test_fallback(question: Question, hosts: list[HostStatus], chosen: str) -> None:
    choice = choose(Snapshot(tuple(hosts), ready=True), question, Place())
    text = "".join(status.host.name for status in choice.hosts)
    assert text + " stale" * choice.stale == chosen
    assert choice.fell_back == (text == "m" and question.kind is not Kind.MASTER)


def test_beyond_the_rate_limit_the_master_counts_as_down() -> None:
    for fallback, chosen in (("master", ""), ("stale", "l"), ("none", "")):
        snapshot = Snapshot((M, LATE), ready=True)
        choice = choose(snapshot, ask("sync_by_time", fallback), Place(), use_master=False)
        assert "".join(status.host.name for status in choice.hosts) == chosen
    assert choose(Snapshot((M,)), ask("master"), Place(), use_master=False).hosts == (M,)


@pytest.mark.parametrize(
    ("min_lsn", "replayed", "reached"),
    [
        (0x3000000, 0x3000000, True),
        pytest.param(0x3000028, 0x3000000, True, id="long header"),
        pytest.param(0x3002018, 0x3002000, True, id="short header"),
        pytest.param(0x3002010, 0x3002000, True, id="inside a header"),
        pytest.param(0x3002018, 0x3001FF8, False, id="before the page"),
        pytest.param(0x3002048, 0x3002000, False, id="a record after the header"),
        pytest.param(0x3002048, 0x3002048, True, id="which is replayed"),
    ],
)
def test_a_position_in_a_page_header_means_the_start_of_the_page(
    min_lsn: int, replayed: int, reached: bool
) -> None:
    question = ask("replica", "none", min_lsn=min_lsn)
    assert names(question, host("a", lsn=replayed)) == ("a" if reached else "")


@pytest.mark.parametrize(
    ("place", "named"),
    [
        (Place(), "abc"),
        (Place(dc="1"), "a"),
        (Place(dc="9", geo="eu"), "ab"),
        (Place(geo="us"), "c"),
        (Place(dc="9", geo="9"), "abc"),
    ],
)
def test_the_nearest_first(place: Place, named: str) -> None:
    hosts = (host("a", dc="1", geo="eu"), host("b", dc="2", geo="eu"), host("c", dc="3", geo="us"))
    assert names(ask("replica"), *hosts, place=place) == named


def test_health_comes_before_place() -> None:
    near = host("a", dc="1", possible_dead=True)
    assert names(ask("replica"), near, host("b", dc="2"), place=Place(dc="1")) == "b"


def test_most_in_sync_ignores_place() -> None:
    far = host("b", dc="2", lag_bytes=0)
    assert names(ask("most_sync_by_bytes"), host("a", dc="1"), far, place=Place(dc="1")) == "b"


def test_an_objection_is_in_words() -> None:
    assert objection(LATE, ask("sync_by_time")) == "5000 ms behind (limit 1000 ms)"
    assert objection(A, ask("replica", min_lsn=0x3000060)) == (
        "replayed position 0/3E8, 0/3000060 is required"
    )
    assert objection(UNKNOWN, ask("sync_by_bytes")) == "byte lag unknown"


@given(st.lists(st.sampled_from([ask("replica"), ask("replica", lag_ms=5)]), max_size=200))
def test_each_question_keeps_its_own_even_turn(questions: list[Question]) -> None:
    turns = Turns()
    named: dict[Question, Counter[int]] = {}
    for question in questions:
        named.setdefault(question, Counter(range(3)))[next(turns.of(question)) % 3] += 1
    for counts in named.values():
        assert max(counts.values()) - min(counts.values()) <= 1


def test_unique_questions_are_distributed_evenly() -> None:
    turns = Turns()
    named = Counter(next(turns.of(ask("replica", min_lsn=lsn))) % 3 for lsn in range(9000))
    assert set(named.values()) == {3000}


def test_forgotten_questions_do_not_pile_up() -> None:
    turns = Turns()
    for lsn in range(5000):
        next(turns.of(ask("replica", min_lsn=lsn)))
    assert len(turns._turns) <= 1024
