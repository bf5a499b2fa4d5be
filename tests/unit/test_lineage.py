"""Whose history a replica has: proven, trusted, refuted."""

import pytest

from pgstatus.core.selection import Fallback, Kind, Place, Thresholds, choose
from pgstatus.core.snapshot import Host, Observation, Standby
from pgstatus.core.state import Look, Rules, State
from tests.support.world import World, master, refused, replica, silent

A, B, C = frozenset({"10.0.0.1"}), frozenset({"10.0.0.2"}), frozenset({"10.0.0.3"})


def from_a(at: float, lsn: int = 1000, **changes: object) -> Observation:
    return replica(at, lsn, **({"upstream": ("10.0.0.1", 5432)} | changes))  # type: ignore[arg-type]


def from_b(at: float, lsn: int = 1000, **changes: object) -> Observation:
    return replica(at, lsn, **({"upstream": ("10.0.0.2", 5432)} | changes))  # type: ignore[arg-type]


def reads(world: World, **limits: int) -> str:
    question = Thresholds().question(Kind.REPLICA, fallback=Fallback.NONE, **limits)
    return "".join(s.host.name for s in choose(world.snapshot, question, Place()).hosts)


def twice() -> World:
    """``a`` and ``b`` write to the same timeline; ``a`` is listed first."""
    world = World().see_all(a=master(0, addresses=A), b=master(0, addresses=B))
    return world.see("c", replica(0, receiving=False, addresses=C))


class TestSeveralWriters:
    @pytest.mark.parametrize(
        ("seen", "proven"),
        [
            pytest.param(from_a(5), True, id="streams from the master"),
            pytest.param(from_b(5), False, id="streams from the other one"),
            pytest.param(replica(5), False, id="unknown upstream"),
            pytest.param(replica(5, receiving=False), False, id="no upstream"),
            pytest.param(replica(5, upstream=("10.9.9.9", 5432)), False, id="another server"),
            pytest.param(replica(5, upstream=("A", 5432)), True, id="by name"),
            pytest.param(replica(5, upstream=("10.0.0.1", 6000)), False, id="another port"),
            pytest.param(replica(5, timeline=None), False, id="timeline not readable"),
            pytest.param(from_a(5, timeline=None), True, id="proof replaces the timeline"),
        ],
    )
    def test_only_a_proven_replica_is_comparable(self, seen: Observation, proven: bool) -> None:
        world = twice().see("a", master(4, addresses=A))
        # Replicas decide the election; here both masters have one.
        world.see("c", seen)
        if world.master != "a":
            assert world.master == "b"
            return
        assert world["c"].same_history is proven
        assert reads(world, min_lsn=1) == ("c" if proven else "")
        assert (world["c"].lag_ms is not None) is proven

    def test_the_list_of_standbys_is_proof_too(self) -> None:
        rows = (Standby("10.0.0.3", "c", "streaming", "async"),)
        world = twice().see("a", master(4, addresses=A, standbys=rows))
        world.see("c", replica(5, addresses=C))
        assert world["c"].same_history
        assert world["c"].upstream == "a:5432"

    def test_a_backup_from_the_same_machine_is_not(self) -> None:
        rows = (Standby("10.0.0.3", "pg_basebackup", "backup", "async"),)
        world = twice().see("a", master(4, addresses=A, standbys=rows))
        assert not world.see("c", replica(5, addresses=C))["c"].same_history

    def test_an_address_that_two_hosts_share_proves_nothing(self) -> None:
        rows = (Standby("10.0.0.3", "c", "streaming", "async"),)
        world = World(4).see_all(a=master(0, addresses=A), b=master(0, addresses=B))
        world.see_all(c=replica(0, addresses=C), d=replica(0, addresses=C))
        world.see("a", master(4, addresses=A, standbys=rows))
        assert not world.see("c", replica(5, addresses=C))["c"].same_history

    def test_a_loopback_address_means_the_machine_of_the_replica(self) -> None:
        local = ("127.0.0.1", 5432)
        world = twice().see("c", replica(5, addresses=C, upstream=local))
        assert world["c"].upstream == "127.0.0.1:5432"
        assert not world["c"].same_history

    def test_on_one_machine_ports_distinguish_the_servers(self) -> None:
        here = frozenset({"127.0.0.1"})
        world = World()
        world.state = State.of([Host("127.0.0.1", port) for port in (5432, 5433, 5434)])
        world.see_all(a=master(0, addresses=here), b=master(0, addresses=here))
        world.see("c", replica(0, addresses=here, upstream=("127.0.0.1", 5433)))
        assert world.snapshot.master is world.snapshot.hosts[1] or world.master == "127.0.0.1"
        assert world["b"].master
        assert (world["c"].upstream, world["c"].same_history) == ("127.0.0.1:5433", True)
        world.see("c", replica(1, addresses=here, upstream=("/run/postgresql", 5432)))
        assert world["c"].upstream == "127.0.0.1:5432"

    def test_a_cascading_replica_is_proven_by_its_upstream(self) -> None:
        world = World(4).see_all(a=master(0, addresses=A), b=master(0, addresses=B))
        world.see_all(c=from_a(0, addresses=C), d=replica(0, upstream=("10.0.0.3", 5432)))
        assert [world[name].same_history for name in "cd"] == [True, True]
        # When its upstream loses the master, both keep the history that they have.
        world.see("a", refused(1)).see("c", replica(1, receiving=False, addresses=C))
        world.see("d", replica(1, upstream=("10.0.0.3", 5432)))
        assert [world[name].same_history for name in "cd"] == [True, True]

    def test_two_replicas_that_stream_from_each_other_prove_nothing(self) -> None:
        world = World(4).see_all(a=master(0, addresses=A), b=master(0, addresses=B))
        world.see("c", replica(0, addresses=C, upstream=("d", 5432)))
        world.see("d", replica(0, upstream=("10.0.0.3", 5432)))
        assert [world[name].same_history for name in "cd"] == [False, False]

    def test_the_proof_lasts_while_the_receiver_does_not_run(self) -> None:
        world = twice().see("c", from_a(5, addresses=C))
        world.see("c", replica(6, receiving=False, addresses=C))
        assert world["c"].same_history
        assert not world.see("c", replica(7, addresses=C))["c"].same_history

    def test_a_second_writer_of_the_past_is_remembered(self) -> None:
        world = twice()
        for at in (5, 10, 15):
            world.see("b", refused(at))
        world.see("a", master(16, addresses=A)).see("c", replica(16, addresses=C))
        assert not world["c"].same_history
        assert "a:5432 and b:5432 have written to timeline 1" in str(world["c"].reason)

    def test_a_new_timeline_ends_it(self) -> None:
        world = twice().see("a", master(16, timeline=2, addresses=A))
        assert world.see("c", replica(17, timeline=2, addresses=C))["c"].same_history

    def test_two_promotions_on_the_same_timeline(self) -> None:
        """repmgr#699: the third host follows the one that is not elected."""
        world = World(4).see_all(a=master(0, addresses=A), b=from_a(0, addresses=B))
        world.see_all(c=from_a(0, addresses=C), d=from_a(0))
        world.see("b", master(5, 1500, timeline=2, addresses=B))
        world.see("d", replica(5, 1500, timeline=2, upstream=("10.0.0.2", 5432)))
        world.see("c", master(5, 1600, timeline=2, addresses=C))
        assert (world.master, reads(world, min_lsn=1500)) == ("b", "d")
        world.see("d", replica(6, 1600, timeline=2, upstream=("10.0.0.3", 5432)))
        # The replicas decide which one is the master; the other one never serves a limit.
        assert (world.master, reads(world, min_lsn=1500)) == ("c", "d")
        world.see("d", replica(7, 1600, timeline=2))
        assert reads(world, min_lsn=1500) == ""

    def test_the_replicas_of_a_rebuilt_master_have_its_former_history(self) -> None:
        """The losing master is rebuilt from the other one. Its replicas, last checked before that,
        cannot stream from it any more.
        """
        world = World(4).see_all(a=master(0, addresses=A), b=from_a(0, addresses=B))
        world.see_all(c=from_a(0, addresses=C), d=replica(0, upstream=("10.0.0.3", 5432)))
        world.see("a", master(1, 1500, addresses=A)).see("b", master(1, 1500, addresses=B))
        world.see_all(c=from_a(1, 1500, addresses=C), d=replica(1, upstream=("10.0.0.3", 5432)))
        world.see("a", from_b(2, 2000, addresses=A))
        assert (world.master, world["a"].same_history) == ("b", True)
        assert [world[name].same_history for name in "cd"] == [False, False]
        stopped = replica(2.1, 1500, receiving=False, addresses=C)
        world.see("c", stopped).see("d", replica(2.1, upstream=("10.0.0.3", 5432)))
        assert [world[name].same_history for name in "cd"] == [False, False]
        # With the same facts as before the change, but checked after it.
        world.see("c", from_a(3, 2000, addresses=C)).see("d", replica(3, upstream=("c", 5432)))
        assert [world[name].same_history for name in "cd"] == [True, True]

    def test_a_replica_of_a_switchover_is_confirmed_by_its_next_check(self) -> None:
        """It streams from the former master, which is a replica now; each check is the same."""
        world = World(4).see_all(a=master(0, addresses=A), b=from_a(0, addresses=B))
        world.see("d", master(0)).see("c", from_a(0.1, addresses=C))
        world.see("b", master(1, addresses=B)).see("a", from_b(1, addresses=A))
        assert (world.master, world["c"].same_history) == ("b", False)
        assert world.see("c", from_a(2, addresses=C))["c"].same_history

    def test_a_demoted_master_of_an_older_timeline_that_shows_nothing(self) -> None:
        """It has writes of its own, and therefore cannot stream from the new master. LOGIN only,
        control functions revoked.
        """
        world = World(rules=Rules(max_fails=1)).see_all(a=master(0, 1500, addresses=A))
        world.see_all(b=replica(0, timeline=None), c=replica(0, timeline=None))
        world.see("b", master(1, 1200, timeline=2)).see("a", refused(1))
        world.see("b", master(2, 1400, timeline=2))
        world.see("a", replica(2, 1500, timeline=None, receiving=False, addresses=A))
        assert world.master == "b"
        assert world["a"].reason == "on timeline 1 (master's timeline: 2)"
        assert "a" not in reads(world, min_lsn=1100)

    def test_a_role_does_not_move_because_of_a_failed_check(self) -> None:
        """multigres#1287: a standby is restarted as writable, the master freezes for 2 s."""
        world = World().see_all(
            a=master(0, addresses=A), b=from_a(0, addresses=B), c=from_a(0, addresses=C)
        )
        world.see("b", master(5, addresses=B)).see("a", refused(6)).see("c", from_a(6))
        assert world.master == "a"
        for at in (11, 16):
            world.see("a", refused(at))
        assert world.master == "b"
        assert world.see("a", master(20, addresses=A)).see("c", from_a(20)).master == "a"


class TestOneWriter:
    def test_an_unproven_replica_is_trusted(self) -> None:
        world = World(2).see_all(a=master(0), b=replica(0))
        assert world["b"].same_history
        assert world.see("b", replica(1, upstream=("10.9.9.9", 5432)))["b"].same_history


class TestAhead:
    """patroni#2717: the master was restored from an older copy of its disk."""

    def restored(self, hosts: int = 3) -> World:
        world = World(hosts).see_all(a=master(0, 5000), b=from_a(0, 5000))
        world.see("c", from_a(0, 5000, addresses=C))
        return world.see("a", refused(3)).see("a", master(10, 3000, addresses=A))

    def test_streaming_from_a_replica_of_the_former_history_proves_nothing(self) -> None:
        """It has replayed more since it was checked; then it is connected to another replica."""
        world = self.restored()
        world.see_all(
            b=replica(10.1, 5400, receiving=False, addresses=B),
            c=replica(10.1, 5200, receiving=False, addresses=C),
        )
        world.see("a", master(11, 5600, addresses=A))
        from_c = replica(11.1, 5400, upstream=("10.0.0.3", 5432), addresses=B)
        world.see("b", from_c)
        assert not world["b"].same_history
        assert reads(world, min_lsn=5000) == ""
        # Both were rebuilt from the master.
        world.see("a", master(12, 5700, addresses=A)).see("c", from_a(12.1, 5700, addresses=C))
        world.see("b", replica(12.1, 5700, upstream=("10.0.0.3", 5432), addresses=B))
        assert [world[name].same_history for name in "bc"] == [True, True]

    def test_a_host_that_is_created_from_a_replica_of_the_former_history(self) -> None:
        world = self.restored(hosts=4)
        world.see("d", replica(11, 5000, upstream=("10.0.0.3", 5432)))
        assert not world["d"].same_history

    def test_what_streams_from_a_refuted_replica_is_refuted_at_once(self) -> None:
        world = World(4).see_all(a=master(0, 5000), b=from_a(0, 5000, addresses=B))
        world.see("c", replica(0, 5000, upstream=("10.0.0.2", 5432), addresses=C))
        world.see("d", replica(0, 5000, upstream=("10.0.0.3", 5432)))
        world.see("c", replica(1, 5400, upstream=("10.0.0.2", 5432), addresses=C))
        world.see("d", replica(1, 5400, upstream=("10.0.0.3", 5432)))
        world.see("b", from_a(1.1, 5600, addresses=B)).see("a", master(2, 5500))
        assert [world[name].same_history for name in "bcd"] == [False, False, False]
        assert world["d"].reason == "follows b:5432, which is ahead of the master"
        assert reads(world, min_lsn=5000) == ""

    def test_it_ends_with_its_cause(self) -> None:
        """The refuted replica is rebuilt; the one that streams from it is idle."""
        world = self.restored()
        world.see("c", replica(11, 5000, receiving=False, addresses=C))
        idle = replica(12, 5000, upstream=("10.0.0.3", 5432), addresses=B)
        world.see("b", idle).see("a", master(13, 5700, addresses=A))
        world.see("c", from_a(13.1, 5700, addresses=C))
        world.see("b", replica(13.2, 5700, upstream=("10.0.0.3", 5432), addresses=B))
        assert [world[name].same_history for name in "bc"] == [True, True]

    def test_a_healthy_host_that_was_connected_to_a_refuted_replica(self) -> None:
        world = self.restored(hosts=4)
        world.see("d", replica(11, 3000, upstream=("10.0.0.3", 5432)))
        assert not world["d"].same_history
        # It does not stream any more: what it has received remains.
        world.see("d", replica(12, 3000, receiving=False))
        assert not world["d"].same_history
        world.see("a", master(13, 3100, addresses=A)).see("d", from_a(13.1, 3100))
        assert world["d"].same_history

    def test_it_is_never_in_sync_again(self) -> None:
        world = self.restored()
        for at in range(11, 40):
            world.see("b", replica(at, 5000, receiving=bool(at % 2)), Look.RECHECK)
            assert not world["b"].same_history
            world.see("a", master(at + 0.5, 3000 + 100 * at))
            assert not world["b"].same_history
        # The master has passed its position in the meantime.
        assert world["a"].lsn == 6900
        assert "ahead of the master" in str(world["b"].reason)

    @pytest.mark.parametrize("lsn", [3500, 6000])
    @pytest.mark.parametrize("seen", [from_a, replica])
    def test_until_it_was_rebuilt_or_has_continued(self, lsn: int, seen: object) -> None:
        world = self.restored().see("b", refused(11)).see("a", master(20, 6000, addresses=A))
        world.see("b", seen(20.1, lsn), Look.RECHECK)  # type: ignore[operator]
        assert world["b"].same_history

    def test_a_restart_is_not_a_rebuild(self) -> None:
        """It replays its own WAL again before it streams."""
        world = self.restored().see("b", refused(11)).see("a", master(20, 6000))
        world.see("b", replica(20.1, 4000, receiving=False), Look.RECHECK)
        assert not world["b"].same_history

    def test_a_replica_that_is_not_ahead_may_still_have_the_former_wal(self) -> None:
        world = World().see_all(a=master(0, 5000), b=from_a(0, 2900), c=from_a(0, 2000))
        world.see("a", master(10, 3000))
        assert [world[name].same_history for name in "bc"] == [False, False]
        world.see("b", from_a(11, 3000)).see("c", replica(11, 2000, receiving=False))
        assert [world[name].same_history for name in "bc"] == [True, False]

    def test_a_server_that_was_down_may_have_been_restored(self) -> None:
        """Its position is past that of the replica, which recovery alone may have caused."""
        world = World(2).see_all(a=master(0, 1000), b=from_a(0, 1000))
        in_sync = []
        for host, result in (
            ("a", refused(1)),
            ("b", replica(1.1, 1050, receiving=False)),
            ("a", master(1.2, 1100, addresses=A)),
            ("b", replica(1.3, 1050, receiving=False)),
            ("b", from_a(1.4, 1100)),
        ):
            world.see(host, result, Look.RECHECK)
            in_sync.append(world["b"].in_sync)
        assert in_sync == [True, True, False, False, True]

    def test_a_server_that_did_not_respond_was_not_restored(self) -> None:
        world = World(2).see_all(a=master(0, 1000), b=from_a(0, 1000))
        world.see("a", silent(0.1)).see("a", master(0.2, 1100, addresses=A))
        assert world["b"].in_sync

    def test_a_position_of_the_same_moment_is_no_contradiction(self) -> None:
        world = World(2).see_all(a=master(0, 1000), b=from_a(0, 1000))
        world.see("b", from_a(4.9995, 2000)).see("a", master(5, 1500))  # it ends at 5.0005
        assert world["b"].same_history


class TestFork:
    def test_a_former_master_that_remains_visible_proves_no_lag(self) -> None:
        """``a`` stays up on timeline 1 for 8.5 s, ``c`` follows ``b`` and is then cut off."""
        world = World().see_all(a=master(0, 1000), b=from_a(0, 1000), c=from_a(0, 1000))
        for at in range(1, 9):
            world.see("a", master(at, 1000))
        # The promotion was at 0.5; the checks of b were delayed.
        world.see("b", master(9, 5000, timeline=2, addresses=B))
        world.see("c", from_b(9.001, 1100, timeline=2), Look.RECHECK)
        lag = world["c"].lag_ms
        assert lag is None or lag >= 8500

    def test_samples_until_the_last_check_as_a_replica_remain(self) -> None:
        world = World().see_all(a=master(0, 1000), b=from_a(0, 1000), c=from_a(0, 1000))
        world.see("a", master(4, 1000)).see("b", from_a(5, 1000)).see("a", master(6, 1000))
        world.see("b", master(9, 5000, timeline=2, addresses=B))
        world.see("c", from_b(9.001, 1100, timeline=2), Look.RECHECK)
        assert world["c"].lag_ms == pytest.approx(5002, abs=1)
