"""Which cluster and which timeline is current, and what counts as evidence."""

import pytest

from pgstatus.core.evidence import most_common
from pgstatus.core.snapshot import Observation
from pgstatus.core.state import Memory, Rules
from tests.support.world import CLUSTER, World, master, refused, replica

NEW = CLUSTER + 1


def healthy() -> World:
    """``a`` is the master; hosts are dead after one failed check."""
    return World(rules=Rules(max_fails=1)).see_all(a=master(0), b=replica(0), c=replica(0))


@pytest.mark.parametrize(
    ("identifiers", "current", "cluster"),
    [
        ([], None, None),
        ([], 5, 5),
        ([5, 6, 6], None, 6),
        ([5, 6, 6], 5, 6),
        ([5, 6], None, 5),
        ([6], 5, 6),
    ],
)
def test_at_the_start_the_cluster_is_that_of_most_hosts(
    identifiers: list[int], current: int | None, cluster: int | None
) -> None:
    assert most_common(identifiers, current) == cluster


class TestIdentifier:
    def test_an_upgraded_master_is_adopted_while_its_standbys_are_down(self) -> None:
        world = healthy().see_all(a=refused(5), b=refused(5), c=refused(5))
        world.see("a", master(60, 10, system_identifier=NEW))
        assert world.master == "a"
        world.see_all(b=replica(70, 10, system_identifier=NEW), c=refused(70))
        assert world["b"].same_history

    def test_what_is_left_of_the_old_cluster_is_foreign_then(self) -> None:
        world = healthy().see_all(a=refused(5), b=refused(5), c=refused(5))
        world.see("a", master(60, 10, system_identifier=NEW)).see("b", replica(70))
        assert (world.master, world["b"].excluded) == ("a", True)

    def test_a_live_old_standby_defers_it(self) -> None:
        world = healthy().see_all(a=refused(5), c=refused(5))
        world.see("a", master(60, 10, system_identifier=NEW)).see("b", replica(60))
        assert world.master is None
        world.see("b", refused(70))
        world.see("a", master(71, 20, system_identifier=NEW))
        assert world.master == "a"

    def test_the_majority_of_its_members_decides(self) -> None:
        world = healthy().see("a", master(60, 10, system_identifier=NEW))
        world.see("b", replica(60, 10, system_identifier=NEW)).see("c", replica(60))
        assert (world.master, world["c"].excluded) == ("a", True)

    def test_a_host_that_was_always_foreign_is_never_adopted(self) -> None:
        world = World(rules=Rules(max_fails=1))
        world.see_all(a=master(0), b=replica(0), c=master(0, system_identifier=NEW))
        for at in range(5, 100, 5):
            world.see_all(a=refused(at), b=refused(at), c=master(at, system_identifier=NEW))
        assert (world.master, world["c"].excluded) == (None, True)

    def test_nor_does_it_vote(self) -> None:
        world = World(rules=Rules(max_fails=1))
        world.see_all(a=master(0), b=replica(0), c=master(0, system_identifier=NEW))
        world.see_all(a=master(5, system_identifier=NEW), b=replica(5))
        assert (world.master, world["a"].excluded) == (None, True)

    def test_a_replica_that_was_created_anew_is_not_the_master(self) -> None:
        world = healthy().see_all(a=refused(5), b=refused(5), c=refused(5))
        world.see("b", master(60, 10, system_identifier=NEW))
        assert world.master is None
        assert world.see("a", master(70, 2000)).master == "a"

    def test_after_a_restart_of_this_process(self) -> None:
        world = World(rules=Rules(max_fails=1))
        world.state = world.state.restore(Memory(CLUSTER, 1, frozenset({"a:5432"}), "a:5432"))
        world.see_all(a=master(0, 10, system_identifier=NEW), b=refused(0))
        assert world.master is None
        assert world.see("c", refused(0)).master == "a"

    def test_two_masters_that_are_re_created_do_not_alternate(self) -> None:
        world = healthy()
        for at in (5, 10, 15):
            world.see_all(a=master(at, 10, system_identifier=NEW), b=replica(at), c=replica(at))
            assert world.master is None


def login_only(at: float, lsn: int = 1000, **changes: object) -> Observation:
    """A replica of which only the position and the running receiver are visible."""
    return replica(at, lsn, timeline=None, **changes)


class TestTimeline:
    def promoted(self) -> World:
        """``b`` was promoted, ``a`` is still running."""
        return healthy().see_all(a=master(5), b=master(5, 1100, 2, control_timeline=2))

    @pytest.mark.parametrize(
        "rebuilt",
        [
            pytest.param(replica(20, 1000), id="it shows what it receives"),
            pytest.param(login_only(20, control_timeline=1), id="LOGIN only"),
            pytest.param(login_only(20), id="LOGIN only, control functions revoked"),
            pytest.param(
                login_only(20, control_timeline=1, receiving=False), id="its control file is older"
            ),
            pytest.param(replica(20, system_identifier=NEW), id="it belongs to another cluster"),
        ],
    )
    @pytest.mark.parametrize("was_down", [False, True])
    def test_a_reverted_promotion_is_forgotten(self, rebuilt: Observation, was_down: bool) -> None:
        world = self.promoted()
        assert world.master == "b"
        if was_down:
            assert world.see("b", refused(10)).master is None
        world.see("b", rebuilt).see("a", master(20))
        assert world.master == "a"

    def test_a_control_file_that_was_not_updated_yet_is_older_than_what_was_written(self) -> None:
        """The first checkpoint after a promotion takes its time."""
        world = healthy().see("b", master(5, 1100, 2, control_timeline=1)).see("b", refused(10))
        world.see("b", login_only(20, control_timeline=1, receiving=False)).see("a", master(20))
        assert world.master == "a"

    def test_a_host_that_cannot_be_reached_remains_evidence(self) -> None:
        world = self.promoted().see("b", refused(10)).see_all(a=master(15), c=replica(15))
        assert world.master is None
        assert world.see("b", master(20, 1200, 2)).master == "b"

    def test_a_replica_without_receiver_may_know_less_than_it_has_received(self) -> None:
        """``c`` followed a promoted server that is not configured or not reachable."""
        world = healthy().see("c", replica(5, timeline=2, control_timeline=1))
        world.see("c", refused(10)).see("c", replica(15, receiving=False, control_timeline=1))
        assert world.see("a", master(15)).master is None
        assert world.see("c", replica(20, control_timeline=1)).see("a", master(20)).master == "a"

    def test_a_data_directory_never_goes_back(self) -> None:
        """``c`` uses an archive instead of streaming, and was rebuilt."""
        archive = {"receiving": False}
        world = healthy().see("c", replica(5, timeline=2, control_timeline=2, **archive))
        assert world.see("a", master(10)).master is None
        world.see("c", replica(15, timeline=1, control_timeline=1, **archive))
        assert world.see("a", master(15)).master == "a"
        assert world["c"].same_history

    def test_evidence_for_an_earlier_timeline_counts_when_that_for_the_newest_is_discarded(
        self,
    ) -> None:
        """``a`` was replaced by ``b``, ``b`` by ``c``; then ``c`` belongs to another cluster."""
        world = healthy().see("b", master(5, timeline=2)).see("b", refused(10))
        world.see("c", master(15, timeline=3)).see("a", master(15))
        assert world.master == "c"
        world.see("c", master(20, system_identifier=NEW))
        assert world["c"].excluded
        assert world.snapshot.master is None
        assert "timeline 2" in str(world["a"].reason or world.snapshot.no_master)
