"""Which facts are a change for `on_change`, and the environment of the command."""

from dataclasses import replace

import pytest

from pgstatus.core.election import SplitBrain
from pgstatus.core.situation import Situation
from pgstatus.core.snapshot import Host, HostStatus, Observation, Role, Snapshot
from pgstatus.core.state import Look, Rules
from tests.support.world import World, master, refused, replica


def quiet() -> World:
    return World().see_all(a=master(0), b=replica(0), c=replica(0))


def facts(world: World) -> Situation:
    return Situation.of(world.snapshot)


def test_a_healthy_cluster() -> None:
    assert facts(quiet()) == Situation(
        master="a:5432", replicas=("b:5432", "c:5432"), sync=("b:5432", "c:5432"), split_brain=()
    )


def test_lag_and_positions_within_the_limits_are_no_change() -> None:
    world = quiet()
    before = facts(world)
    world.see_all(a=master(5, 9000), b=replica(5, 8000), c=replica(5, 9000))
    assert facts(world) == before


def test_lag_that_the_interval_of_the_checks_explains_is_no_change() -> None:
    """The replica is known to have been at most 5 s behind; the limit of requests is 1 s."""
    world = World(rules=Rules(sleep=5.0)).see_all(a=master(0), b=replica(0), c=replica(0))
    before = facts(world)
    world.see_all(a=master(5, 9000), c=replica(5, 9000))
    world.see("b", replica(5, 8000), Look.RECHECK)
    assert not world["b"].sync_by_time
    assert facts(world) == before
    world.see_all(a=master(10, 19_000), c=replica(10, 19_000))
    world.see("b", replica(10, 8000), Look.RECHECK)
    assert facts(world).differences(before) == ("sync",)


@pytest.mark.parametrize(
    ("name", "seen", "changed"),
    [
        ("b", master(5, 3_000_000, timeline=2), ("master", "replicas", "sync", "split_brain")),
        ("b", replica(5, 3_000_000, system_identifier=1), ("replicas", "sync")),
    ],
    ids=["promoted", "of another cluster"],
)
def test_the_changes_of_one_check(name: str, seen: Observation, changed: tuple[str, ...]) -> None:
    world = quiet().see_all(
        a=master(4, 3_000_000), b=replica(4, 3_000_000), c=replica(4, 3_000_000)
    )
    before = facts(world)
    world.see(name, seen)
    assert facts(world).differences(before) == changed


def test_a_failed_check_is_no_change_but_a_dead_replica_is() -> None:
    world = quiet()
    before = facts(world)
    world.see("b", refused(5))
    assert "replicas" not in facts(world).differences(before)
    world.see("b", refused(10)).see("b", refused(15))
    assert facts(world).replicas == ("c:5432",)


def test_a_late_replica_is_a_change_of_sync_only() -> None:
    snapshot = quiet().snapshot
    a, b, c = snapshot.hosts
    late = replace(snapshot, hosts=(a, replace(b, sync_by_time=False, lag_ms=5000), c))
    assert Situation.of(late).sync == ("c:5432",)
    assert Situation.of(late).differences(Situation.of(snapshot)) == ("sync",)


@pytest.mark.parametrize(("lag_bytes", "sync"), [(None, ("b:5432",)), (2_000_000, ())])
def test_byte_lag_counts_only_if_it_is_known(lag_bytes: int | None, sync: tuple[str, ...]) -> None:
    status = HostStatus(
        Host("b", 5432), role=Role.REPLICA, alive=True, sync_by_time=True, lag_bytes=lag_bytes
    )
    assert Situation.of(Snapshot((status,), ready=True)).sync == sync


def test_a_split_brain_lists_all_primaries() -> None:
    for policy, named in ((SplitBrain.NEWEST_TIMELINE, "b:5432"), (SplitBrain.NONE, None)):
        world = World(rules=Rules(split_brain=policy))
        world.see_all(a=master(0), b=master(0, timeline=2), c=replica(0, timeline=2))
        assert facts(world).split_brain == ("a:5432", "b:5432")
        assert facts(world).master == named


def test_everything_differs_from_no_situation() -> None:
    assert facts(quiet()).differences(None) == ("master", "replicas", "sync", "split_brain")
    assert facts(quiet()).differences(facts(quiet())) == ()


def test_the_environment() -> None:
    assert facts(quiet()).environment(("master", "sync")) == {
        "PG_STATUS_CLUSTER": "",
        "PG_STATUS_MASTER": "a",
        "PG_STATUS_MASTER_PORT": "5432",
        "PG_STATUS_REPLICAS": "b:5432 c:5432",
        "PG_STATUS_SYNC_REPLICAS": "b:5432 c:5432",
        "PG_STATUS_SPLIT_BRAIN": "",
        "PG_STATUS_CHANGES": "master sync",
    }


@pytest.mark.parametrize("name", ["::1", "/run/postgresql", "pg1.example.org"])
def test_the_master_is_formatted_for_libpq(name: str) -> None:
    """Host and port separately, an IPv6 address without brackets."""
    status = HostStatus(Host(name, 6000), role=Role.MASTER, master=True, alive=True)
    environment = Situation.of(Snapshot((status,), ready=True)).environment(())
    assert environment["PG_STATUS_MASTER"] == name
    assert environment["PG_STATUS_MASTER_PORT"] == "6000"


def test_without_a_master_two_variables_are_empty() -> None:
    environment = Situation.of(Snapshot((HostStatus(Host("a", 1)),), ready=True)).environment(())
    assert environment["PG_STATUS_MASTER"] == environment["PG_STATUS_MASTER_PORT"] == ""
