"""Explanations: they name whom the answer names, and give the reason of every other."""

from pgstatus.core.explain import explain
from pgstatus.core.selection import Kind, Place, Question, choose
from pgstatus.core.snapshot import HostStatus, Snapshot
from tests.unit.test_selection import DEAD, FAR, ILL, ILL_M, LATE, A, B, M, ask, host

NEAR = host("n", dc="here")


def told(question: Question, *hosts: HostStatus, place: Place | None = None) -> list[str]:
    place = place or Place()
    snapshot = Snapshot(hosts, ready=True)
    verdicts = explain(snapshot, question, place)
    chosen = tuple(verdict.status for verdict in verdicts if verdict.chosen)
    assert chosen == choose(snapshot, question, place)
    return [f"{'+' if v.chosen else '-'}{v.status.host.name} {v.why}" for v in verdicts]


def test_the_master() -> None:
    assert told(ask("master"), M, A) == ["+m is the master", "-a is a replica"]
    assert told(ask("master"), ILL_M) == ["+m is the master, possibly dead (timeout)"]
    assert told(ask("replica"), ILL_M) == [
        "+m is the master, possibly dead (timeout): no healthy replica fits"
    ]


def test_late_replicas_and_the_master_in_their_place() -> None:
    assert told(ask("replica", lag_ms=1000), M, LATE) == [
        "+m is the master: no healthy replica fits",
        "-l is 5000 ms behind, more than 1000",
    ]


def test_the_dead_and_the_possibly_dead() -> None:
    assert told(ask("replica"), M, A, ILL, DEAD)[1:] == [
        "+a fits",
        "-i fits, but is possibly dead (timeout), and healthy hosts come first",
        "-d is not a live replica",
    ]


def test_the_nearer_and_the_closer() -> None:
    assert told(ask("replica"), A, NEAR, place=Place(dc="here")) == [
        "-a fits, but n:5432 is nearer",
        "+n fits",
    ]
    assert told(ask("most_sync_by_bytes"), A, B, FAR) == [
        "+a fits",
        "-b fits, but a:5432 has less to catch up or comes first in the list",
        "-f is 5000000 bytes behind, more than 1000000",
    ]


def test_a_master_that_was_replaced() -> None:
    question = ask("replica", min_lsn=1, timeline=2)
    assert told(question, M) == ["-m is the master, but on timeline 1, not 2"]


def test_every_kind_has_an_explanation() -> None:
    for kind in Kind:
        assert told(ask(kind), M, A, LATE, FAR, ILL, DEAD)
