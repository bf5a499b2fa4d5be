"""Explanations agree with the answer, and give the reason for every other host."""

from dataclasses import replace

from pgstatus.core.explain import explain
from pgstatus.core.selection import Kind, Place, Question, choose
from pgstatus.core.snapshot import HostStatus, Snapshot
from tests.unit.test_selection import DEAD, DOWN_M, FAR, ILL, ILL_M, LATE, A, B, M, ask, host

NEAR = host("n", dc="here")


def reported(question: Question, *hosts: HostStatus, place: Place | None = None) -> list[str]:
    place = place or Place()
    snapshot = Snapshot(hosts, ready=True)
    verdicts = explain(snapshot, question, place)
    chosen = tuple(verdict.status for verdict in verdicts if verdict.chosen)
    assert chosen == choose(snapshot, question, place).hosts
    return [f"{'+' if v.chosen else '-'}{v.status.host.name} {v.why}" for v in verdicts]


def test_the_master() -> None:
    assert reported(ask("master"), M, A) == ["+m is the master", "-a replica, not master"]
    assert reported(ask("master"), ILL_M) == ["+m is the master, possibly dead (timeout)"]
    assert reported(ask("replica"), ILL_M) == [
        "+m is the master, possibly dead (timeout): no healthy replica is within the limits"
    ]


def test_late_replicas_and_the_master_in_their_place() -> None:
    assert reported(ask("replica", lag_ms=1000), M, LATE) == [
        "+m is the master: no healthy replica is within the limits",
        "-l 5000 ms behind (limit 1000 ms)",
    ]


def test_the_dead_and_the_possibly_dead() -> None:
    assert reported(ask("replica"), M, A, ILL, DEAD)[1:] == [
        "+a within the limits",
        "-i within the limits, but possibly dead (timeout); healthy hosts are preferred",
        "-d not a live replica",
    ]


def test_the_cause_of_death() -> None:
    dead = replace(DEAD, reason="dead: 3 failed checks in a row", error="Connection refused")
    for question in (ask("replica"), ask("master")):
        assert reported(question, M, dead)[1] == (
            "-d dead: 3 failed checks in a row (Connection refused)"
        )


def test_the_nearer_and_the_closer() -> None:
    assert reported(ask("replica"), A, NEAR, place=Place(dc="here")) == [
        "-a within the limits, but n:5432 is nearer",
        "+n within the limits",
    ]
    assert reported(ask("most_sync_by_bytes"), A, B, FAR) == [
        "+a within the limits",
        "-b within the limits, but a:5432 has a lower byte lag or is listed first",
        "-f 5000000 bytes behind (limit 1000000 bytes)",
    ]


def test_a_master_that_was_replaced() -> None:
    question = ask("replica", min_lsn=1, timeline=2)
    assert reported(question, M) == ["-m master on timeline 1, timeline 2 is required"]


def test_a_master_that_is_down_and_a_stale_replica() -> None:
    assert reported(ask("replica", lag_ms=1000), DOWN_M, LATE)[0] == (
        "-m is the master, down (Connection refused)"
    )
    assert reported(ask("replica", "stale", lag_ms=1000), DOWN_M, LATE)[1] == (
        "+l stale: 5000 ms behind (limit 1000 ms); no replica is within the limits"
    )
    assert reported(ask("replica", "none"), M)[0] == "-m is the master; fallback=none"


def test_every_kind_has_an_explanation() -> None:
    for kind in Kind:
        assert reported(ask(kind), M, A, LATE, FAR, ILL, DEAD)
