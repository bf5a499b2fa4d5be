"""Reads while the master does not respond, or is known to be down."""

import pytest

from pgstatus.core.selection import Fallback, Kind, Place, Thresholds, choose
from pgstatus.core.snapshot import Observation
from pgstatus.core.state import Look, Rules
from tests.support.world import CLOCK, World, master, refused, replica, silent

KINDS = [kind for kind in Kind if kind is not Kind.MASTER]


def streaming(at: float, lsn: int = 1000, **changes: object) -> Observation:
    values = {"upstream": ("a", 5432), "received_lsn": lsn, "upstream_lsn": lsn}
    return replica(at, lsn, **(values | changes))  # type: ignore[arg-type]


def cut_off(at: float, lsn: int = 1000, **changes: object) -> Observation:
    """A replica that has lost its connection to the master."""
    values: dict[str, object] = {"receiving": False, "received_lsn": lsn, "upstream_lsn": lsn}
    return replica(at, lsn, **(values | changes))  # type: ignore[arg-type]


def healthy(**rules: object) -> World:
    world = World(rules=Rules(sleep=1.0, **rules))  # type: ignore[arg-type]
    return world.see_all(a=master(10), b=streaming(10), c=streaming(10))


def crashed(at: float = 10.9, **rules: object) -> World:
    """The master was in order at 10.0 and is down."""
    world = healthy(**rules)
    return world.see_all(a=refused(at), b=cut_off(at), c=cut_off(at))


def answers(world: World, kind: Kind, fallback: str = "master", **limits: int) -> str:
    question = Thresholds().question(kind, fallback=Fallback(fallback), **limits)
    choice = choose(world.snapshot, question, Place())
    return "".join(status.host.name for status in choice.hosts) + " stale" * choice.stale


@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_that_was_in_sync_remains_readable(kind: Kind) -> None:
    expected = "b" if kind is Kind.MOST_SYNC_BY_BYTES else "bc"
    world = crashed()
    assert answers(world, kind) == expected
    assert answers(world, Kind.REPLICA, lag_ms=1000, lag_bytes=0) == "bc"
    for at in range(12, 60):
        world.see_all(a=refused(at), b=cut_off(at), c=cut_off(at))
        assert answers(world, kind) == expected, at


def test_until_it_is_certain_lag_is_as_last_measured() -> None:
    world = healthy().see("a", refused(10.9))
    assert answers(world, Kind.SYNC_BY_TIME) == "bc"


def test_the_master_is_reported_until_it_is_dead_but_not_for_reads() -> None:
    world = crashed()
    assert answers(world, Kind.MASTER) == "a"
    assert (world["a"].down, world["a"].possible_dead) == (True, True)
    world.see("b", refused(11)).see("c", refused(11))
    assert answers(world, Kind.REPLICA) == "bc"
    for at in (12, 13, 14):
        world.see_all(b=refused(at), c=refused(at))
    assert answers(world, Kind.REPLICA) == ""


def test_a_silent_master_may_still_commit() -> None:
    world = healthy().see("a", silent(11))
    for at in (12.0, 13.0):
        world.see("b", streaming(at), Look.RECHECK).see("c", cut_off(at), Look.RECHECK)
    assert world["b"].lag_ms == pytest.approx(3001, abs=1)
    assert answers(world, Kind.SYNC_BY_TIME) == "a"
    assert not world["a"].down


def test_a_refused_connection_alone_does_not_mean_that_it_is_down() -> None:
    """It may be a moved address, or a smart shutdown that still serves its sessions."""
    for seen in (streaming, replica):  # the second does not show its upstream (LOGIN only)
        world = healthy().see("a", refused(11))
        world.see_all(b=cut_off(11), c=cut_off(11))
        assert world["a"].down
        after = world.see("b", seen(12.5), Look.RECHECK)["a"]
        assert not after.down
        assert world["b"].lag_ms == pytest.approx(2501, abs=1)


def test_a_master_that_returns_is_not_down() -> None:
    world = crashed().see("a", master(20, 1200))
    assert (world["a"].down, world["a"].possible_dead) == (False, False)
    world.see("b", cut_off(20.1), Look.RECHECK)
    assert not world["b"].sync_by_time


def test_a_long_silence_before_it_went_down_counts() -> None:
    world = healthy(max_fails=100)
    for at in (11, 12, 13):
        world.see_all(a=silent(at), b=cut_off(at), c=cut_off(at))
    world.see_all(a=refused(14), b=cut_off(14), c=cut_off(14))
    assert world["a"].down
    assert world["b"].lag_ms == pytest.approx(4001, abs=5)
    assert not world["b"].sync_by_time


def test_a_replica_that_was_late_remains_late() -> None:
    world = healthy()
    for at in (11, 12, 13):
        lsn = at * 1000
        world.see("a", master(at, lsn)).see("b", streaming(at + 0.01, lsn), Look.RECHECK)
        world.see("c", streaming(at + 0.01, 1000), Look.RECHECK)
    world.see_all(a=refused(13.5), b=cut_off(13.5, 13000), c=cut_off(13.5, 1000))
    for at in (14, 20, 30):
        world.see_all(a=refused(at), b=cut_off(at, 13000), c=cut_off(at, 1000))
        assert answers(world, Kind.SYNC_BY_TIME) == "b"
        assert world["c"].lag_ms == pytest.approx(3501, abs=5)
        assert world["c"].lag_bytes == 12000
    assert answers(world.see("b", refused(31)), Kind.SYNC_BY_TIME) == "b"
    for at in (32, 33, 34):
        world.see("b", refused(at))
    assert answers(world, Kind.SYNC_BY_TIME) == ""
    assert answers(world, Kind.SYNC_BY_TIME, "stale") == "c stale"


def test_the_bytes_that_another_host_has_received_count() -> None:
    world = healthy()
    world.see_all(a=refused(10.9), b=cut_off(10.9, 1000), c=cut_off(10.9, 1000))
    world.see("c", cut_off(11, 1500, received_lsn=2000))
    assert (world["b"].lag_bytes, world["c"].lag_bytes) == (1000, 500)
    # A replica that is not complete is only as fresh as can be proven.
    assert world["b"].lag_ms == pytest.approx(901, abs=2)
    assert answers(world, Kind.MOST_SYNC_BY_BYTES) == "c"


def test_replay_that_is_not_finished_at_the_crash_is_caught_up_later() -> None:
    world = healthy().see("a", master(11, 5000))
    for name in "bc":
        world.see(name, streaming(11.01, 5000), Look.RECHECK)
    behind = cut_off(12.1, 8000, received_lsn=9000, upstream_lsn=9000)
    world.see_all(a=refused(12.1), b=behind, c=behind)
    assert not world["b"].sync_by_time
    world.see("b", cut_off(12.2, 9000))
    assert world["b"].sync_by_time


def test_a_transaction_that_was_replayed_last_bounds_the_lag() -> None:
    world = healthy().see_all(a=master(11, 5000), b=streaming(11, 4000), c=streaming(11, 4000))
    seen = cut_off(12.1, 8000, received_lsn=9000, replayed_at=CLOCK + 12.0)
    world.see_all(a=refused(12.1), b=seen, c=cut_off(12.1, 1000))
    assert world["b"].lag_ms == pytest.approx(101, abs=5)


def test_a_dead_master_stays_down() -> None:
    world = healthy(max_fails=2)
    for at in (11, 12, 13, 14):
        world.see_all(a=refused(at), b=cut_off(at), c=cut_off(at))
    assert world.master is None
    assert answers(world, Kind.SYNC_BY_TIME_AND_BYTES) == "bc"


def test_after_a_promotion_lag_refers_to_the_new_master() -> None:
    world = crashed().see("b", master(15, 1100, timeline=2))
    assert answers(world, Kind.SYNC_BY_TIME) == "b"
    seen = replica(15.1, 1100, timeline=2, upstream=("b", 5432))
    world.see("c", seen, Look.RECHECK)
    assert answers(world, Kind.SYNC_BY_TIME) == "c"


def test_a_replica_cascades_from_another_one() -> None:
    """It streams while the master is down, and not from it."""
    world = healthy().see("c", replica(10.5, upstream=("b", 5432)))
    world.see_all(a=refused(10.9), b=cut_off(10.9), c=replica(10.9, upstream=("b", 5432)))
    assert world["a"].down
    assert answers(world, Kind.SYNC_BY_TIME) == "bc"
