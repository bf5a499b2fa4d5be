"""What a check's result means: the rules at the top of ``tracker.py``, one by one."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.core.election import SplitBrain
from pgstatus.core.selection import Kind, Place, Thresholds, choose
from pgstatus.core.snapshot import Failure, Host, Observation, Position
from pgstatus.core.state import Look, Memory, Rules, State
from pgstatus.core.tracker import fold, fold_position, overdue_after, suspect
from tests.support.world import CLUSTER, NOON, World, master, refused, replica, silent

LATER = NOON + timedelta(seconds=5)


def healthy(at: float = 0.0, **rules: object) -> World:
    world = World(rules=Rules(**rules))  # type: ignore[arg-type]
    return world.see_all(a=master(at), b=replica(at), c=replica(at))


class TestHealth:
    def test_before_its_first_check_a_host_is_unknown(self) -> None:
        status = World()["a"]
        assert (status.role, status.alive, status.checked_at) == ("unknown", False, None)

    def test_ready_when_every_host_had_its_first_check_good_or_bad(self) -> None:
        world = World().see_all(a=master(0), b=replica(0))
        assert not world.snapshot.ready
        assert world.see("c", refused(2)).snapshot.ready

    def test_a_host_that_never_answered_is_not_alive(self) -> None:
        assert not World().see("a", refused(0))["a"].alive

    def test_one_failure_makes_it_possibly_dead_and_keeps_what_was_known(self) -> None:
        world = healthy().see("b", refused(5))
        status = world["b"]
        assert (status.alive, status.possible_dead, status.lsn) == (True, True, 1000)
        assert status.error == "Connection refused"
        assert status.lag_ms is not None

    def test_of_two_on_one_timeline_the_first_listed_is_elected_in_any_order_of_responses(
        self,
    ) -> None:
        for order in ("abc", "cba", "bca"):
            world = World()
            for name in order:
                world.see(name, refused(0) if name == "a" else master(0, timeline=2))
            assert world.master == "b", order

    def test_max_fails_in_a_row_make_it_dead_and_forget_it(self) -> None:
        world = healthy(max_fails=3)
        for at in (5, 10):
            assert world.see("b", refused(at))["b"].alive
        status = world.see("b", refused(15))["b"]
        assert not status.alive
        assert (status.role, status.lag_ms, status.lag_bytes, status.lsn) == (
            "unknown", None, None, None,
        )  # fmt: skip
        assert not status.sync_by_time
        assert not status.sync_by_bytes

    def test_a_good_check_between_failures_starts_the_count_anew(self) -> None:
        world = healthy(max_fails=2).see("b", refused(5)).see("b", replica(10))
        assert not world["b"].possible_dead
        assert world.see("b", refused(15))["b"].alive

    def test_quick_failures_count_once_per_pause(self) -> None:
        world = healthy(max_fails=3, sleep=5.0)
        for tenth in range(1, 99):
            world.see("a", refused(tenth / 10))
        assert world["a"].alive
        assert not world.see("a", refused(10.1))["a"].alive


class TestMaster:
    def test_a_possibly_dead_master_is_still_reported(self) -> None:
        assert healthy().see("a", refused(5)).master == "a"

    def test_a_dead_one_is_not(self) -> None:
        world = healthy(max_fails=1).see("a", refused(5))
        assert world.master is None
        assert world.snapshot.no_master == "no live host is a master"

    def test_a_promoted_replica_is_reported_immediately(self) -> None:
        world = healthy().see("a", refused(5)).see("b", master(5, 1100, timeline=2))
        assert world.master == "b"

    def test_a_returning_old_master_is_not_elected_even_if_the_new_one_is_dead(self) -> None:
        world = healthy(max_fails=1).see("b", master(5, 1100, timeline=2)).see("a", master(6, 5000))
        assert world.master == "b"
        assert "timeline 2 exists" in str(world["a"].reason)
        assert world.see("b", refused(10)).master is None
        assert "a:5432: master on timeline 1" in str(world.snapshot.no_master)

    def test_it_heals_when_the_old_master_is_rebuilt(self) -> None:
        world = healthy().see("b", master(5, 1100, timeline=2)).see("a", master(6, 5000))
        world.see("a", replica(10, 1100, timeline=2)).see("b", master(10, 1100, timeline=2))
        assert world["a"].reason is None
        assert world["a"].sync_by_time

    def test_list_order_decides_if_configured(self) -> None:
        world = healthy(split_brain=SplitBrain.FIRST).see("b", master(5, 1100, timeline=2))
        assert world.master == "a"

    def test_no_master_is_elected_if_configured(self) -> None:
        world = healthy(split_brain=SplitBrain.NONE).see("b", master(5, 1100, timeline=2))
        assert world.master is None
        assert world.snapshot.split_brain
        assert [s.host.name for s in world.snapshot.masters] == ["a", "b"]

    def test_a_host_of_another_cluster_is_excluded(self) -> None:
        world = healthy().see("c", master(5, 9_999_999, timeline=9, system_identifier=42))
        assert world.master == "a"
        assert world["c"].excluded
        assert "different cluster" in str(world["c"].reason)

    def test_a_wrong_first_host_does_not_decide_which_cluster_it_is(self) -> None:
        world = World().see("a", master(0, timeline=7, system_identifier=42))
        world.see_all(b=master(0, timeline=3), c=replica(0, timeline=3))
        assert world.master == "b"
        assert world["a"].excluded

    def test_a_replica_that_receives_a_newer_timeline_is_evidence_too(self) -> None:
        world = World().see_all(a=master(0, timeline=1), b=refused(0), c=replica(0, timeline=2))
        assert world.master is None
        assert "timeline 2 exists" in str(world.snapshot.no_master)

    def test_an_undone_promotion_is_forgotten(self) -> None:
        """Promoted by mistake and rebuilt: all hosts are on timeline 1 again."""
        world = healthy().see("b", master(5, 1100, timeline=2))
        assert world.see("a", master(10)).master == "b"
        assert world.see("b", replica(15)).see("a", master(15)).master == "a"

    def test_a_timeline_is_not_forgotten_while_its_witness_is_dead(self) -> None:
        world = healthy(max_fails=1).see("b", master(5, 1100, timeline=2)).see("b", refused(10))
        assert world.see("a", master(15)).see("c", replica(15)).master is None

    def test_of_two_clusters_the_first_listed_is_watched_whoever_answers_first(self) -> None:
        for order in ("ab", "ba"):
            world = World(2)
            for name in order:
                world.see(name, master(0, system_identifier="ab".index(name) + 1))
            assert world.master == "a"

    def test_a_switchover_to_replica_and_back_leaves_no_old_lag(self) -> None:
        world = healthy().see("b", master(5, 1100, timeline=2)).see("a", replica(5, 1000))
        assert (world["a"].lag_ms, world["a"].sync_by_time) == (None, False)


class TestLag:
    def test_the_master_has_none(self) -> None:
        status = healthy()["a"]
        assert (status.lag_ms, status.lag_bytes, status.sync_by_time) == (0, 0, True)

    def test_an_idle_cluster_is_in_sync_in_whichever_order_its_answers_come(self) -> None:
        world = healthy()
        for at in (5, 10, 15):
            for name, result in (("b", replica(at)), ("a", master(at)), ("c", replica(at))):
                world.see(name, result)
                assert [world[n].sync_by_time for n in "bc"] == [True, True]

    def test_one_write_after_a_quiet_time_is_no_alarm(self) -> None:
        world = healthy().at(LATER).see("b", replica(5, 1000)).see("a", master(5.001, 1200))
        assert world["b"].sync_by_time
        assert 1 in world.state.unsettled
        # Until then the lag of the previous check remains.
        assert world["b"].checked_at == NOON
        world.see("b", replica(5.05, 1200), Look.RECHECK)
        assert world.state.unsettled == ()
        assert world["b"].lag_ms == pytest.approx(50, abs=2)
        assert world["b"].checked_at == LATER

    def test_still_late_at_the_second_look_is_late(self) -> None:
        world = healthy().see("b", replica(5, 1000)).see("a", master(5.001, 1200))
        world.see("b", replica(5.05, 1000), Look.RECHECK)
        assert not world["b"].sync_by_time
        assert world["b"].lag_ms == pytest.approx(5051, abs=2)
        assert world["b"].lag_bytes == 200

    def test_a_slow_first_check_of_the_master_settles_its_replicas_when_it_comes(self) -> None:
        world = World().see("b", replica(0)).see("b", replica(0.05), Look.RECHECK)
        assert world["b"].lag_ms is None
        world.see("a", master(0.2))
        assert world["b"].lag_ms == 0

    def test_a_glance_moves_the_position_and_does_not_blacken_the_lag(self) -> None:
        world = healthy().see("b", replica(4, 1500), Look.POSITION)
        assert (world["b"].lsn, world["b"].lag_ms) == (1500, 1)
        assert world.state.unsettled == ()
        world.see("a", master(5, 2000))
        assert (world["b"].lsn, world["b"].lag_ms) == (1500, 1)

    def test_while_the_master_does_not_respond_time_lag_grows(self) -> None:
        world = (
            healthy().see("a", silent(5)).see("b", replica(6)).see("b", replica(6), Look.RECHECK)
        )
        status = world["b"]
        assert status.lag_ms == pytest.approx(6001, abs=1)
        assert not status.sync_by_time
        # Byte lag refers to the highest position known to any host.
        assert (status.lag_bytes, status.sync_by_bytes) == (0, True)

    def test_a_replica_on_the_old_timeline_is_never_in_sync(self) -> None:
        world = healthy().see("b", master(5, 1100, timeline=2))
        world.see("c", replica(5.01, 9999, timeline=1), Look.RECHECK)
        status = world["c"]
        assert not status.sync_by_time
        assert not status.sync_by_bytes
        assert not status.same_history
        assert status.reason == "on timeline 1 (master's timeline: 2)"
        question = Thresholds().question(Kind.REPLICA, min_lsn=1)
        assert [s.host.name for s in choose(world.snapshot, question, Place()).hosts] == ["b"]

    def test_a_replica_of_unknown_timeline_is_taken_to_follow_its_master(self) -> None:
        world = World().see_all(a=master(0, timeline=3), b=replica(0, timeline=None), c=refused(0))
        assert (world["b"].timeline, world["b"].history) == (None, 3)
        for timeline, named in ((3, "b"), (2, "a")):
            question = Thresholds().question(Kind.REPLICA, min_lsn=1, timeline=timeline)
            assert [s.host.name for s in choose(world.snapshot, question, Place()).hosts] == [named]

    def test_a_replica_of_unknown_timeline_ahead_of_its_master_is_not_in_sync(self) -> None:
        world = healthy().see("b", replica(5, 2000, timeline=None)).see("a", master(5.1, 1500))
        assert "ahead of the master" in str(world["b"].reason)

    def test_a_replica_of_unknown_timeline_cannot_be_trusted_beside_two_masters(self) -> None:
        world = healthy().see("b", master(5, 1100, timeline=2))
        world.see("c", replica(5, 1000, timeline=None), Look.RECHECK)
        assert "timeline not readable" in str(world["c"].reason)

    def test_a_restart_point_does_not_take_a_received_timeline_back(self) -> None:
        world = healthy().see("a", master(5, timeline=2)).see("b", replica(5, timeline=2))
        world.see("b", replica(10, timeline=1, receiving=False))
        assert world["b"].timeline == 2


class TestPositionCheck:
    def test_it_changes_the_position_alone(self) -> None:
        world = healthy()
        before = world["b"]
        world.state = fold_position(world.state, 1, Position(True, 1500, 4, 4.001), world.rules)
        assert replace(world["b"], lsn=1000) == before
        assert world["b"].lsn == 1500

    def test_a_promoted_host_or_an_unknown_one_needs_a_complete_check(self) -> None:
        world = healthy().see("c", refused(1))
        for index, position in ((1, Position(False, 1500, 4, 4.001)), (0, Position(True, 9, 4, 5))):
            assert fold_position(world.state, index, position, world.rules) is world.state

    def test_a_possibly_dead_host_remains_so(self) -> None:
        world = healthy().see("b", refused(3))
        world.state = fold_position(world.state, 1, Position(True, 1500, 4, 4.001), world.rules)
        assert (world["b"].possible_dead, world["b"].lsn) == (True, 1500)


class TestOverdue:
    def overdue(self, world: World, asked: float, now: float) -> bool:
        world.state = suspect(world.state, 1, asked, now)
        return world["b"].possible_dead

    def test_a_frozen_replica_is_possibly_dead_after_half_a_second(self) -> None:
        world = healthy()
        assert overdue_after(world.state, 1) == pytest.approx(0.501)
        assert not self.overdue(world, 5, 5.45)
        assert self.overdue(world, 5, 5.55)
        assert world["b"].error == "no response for 0.5 s"

    def test_a_slow_replica_is_not_taken_for_a_frozen_one_again(self) -> None:
        world = healthy()
        assert self.overdue(world, 5, 5.55)
        world.see("b", replica(5, finished=5.8))
        assert not world["b"].possible_dead
        for at in range(6, 30):
            assert not self.overdue(world, at, at + 0.75)
            world.see("b", replica(at, finished=at + 0.8))
        assert self.overdue(world, 30, 31.35)

    def test_one_slow_response_is_forgotten(self) -> None:
        world = healthy().see("b", replica(5, finished=5.8))
        for at in range(6, 40):
            world.see("b", replica(at))
        assert self.overdue(world, 40, 40.55)

    def test_a_master_is_never_overdue(self) -> None:
        world = healthy()
        assert suspect(world.state, 0, 5, 9) is world.state


class TestStaleness:
    def test_a_snapshot_says_until_when_it_may_be_served(self) -> None:
        world = healthy(max_staleness=30.0)
        assert world.snapshot.stale_after == 30
        # One host whose check hangs makes not all of it stale.
        assert world.see("a", master(20)).see("b", replica(20)).snapshot.stale_after == 50

    def test_when_all_was_forgotten_nothing_may_be_served(self) -> None:
        assert healthy(max_staleness=30.0).expire(31).snapshot.stale_after < 0

    def test_old_evidence_of_some_hosts_is_forgotten_but_readiness_is_not(self) -> None:
        world = healthy(max_staleness=30.0).see("a", master(100)).expire(101)
        assert world.master == "a"
        assert (world["b"].alive, world["b"].reason) == (False, "no recent check")
        assert world.snapshot.ready
        assert world.snapshot.stale_after == 130

    def test_after_all_results_expired_no_master_is_reported_until_every_host_was_checked(
        self,
    ) -> None:
        """This process was suspended during a failover; the old master responds first."""
        world = healthy(max_staleness=30.0).expire(100).see("a", master(100, timeline=1))
        assert not world.snapshot.ready
        world = world.see("b", master(100, timeline=2)).see("c", refused(100))
        assert world.snapshot.ready
        assert world.master == "b"

    def test_the_cluster_remains_the_same_until_every_host_was_checked(self) -> None:
        """a was made anew as another cluster, and is the first in the list and to answer."""
        stranger = {"system_identifier": CLUSTER + 1}
        world = World(2, Rules(max_staleness=30.0))
        world.see_all(a=replica(0), b=master(0, timeline=2)).see("a", master(5, **stranger))
        assert world.master == "b"
        world.expire(100).see_all(a=master(100, **stranger), b=master(100, timeline=2))
        assert world.snapshot.ready
        assert world.master == "b"
        assert world.state.memory == Memory(
            CLUSTER, 2, frozenset({"b:5432"}), "b:5432", frozenset({"b:5432"})
        )

    def test_a_reload_that_adds_a_host_does_not_change_the_cluster(self) -> None:
        world = World(1).see("a", master(0))
        world.state = world.state.among([Host("x", 5432), Host("a", 5432)])
        world.state = fold(
            world.state, 0, master(1, system_identifier=CLUSTER + 1), NOON, world.rules
        )
        assert world.state.system_identifier == CLUSTER

    def test_failed_checks_keep_no_evidence_young(self) -> None:
        world = healthy(max_staleness=30.0, max_fails=1000)
        for at in range(5, 35, 5):
            world.see_all(a=master(at), b=refused(at), c=replica(at)).expire(at)
        assert (world["b"].alive, world["b"].possible_dead) == (True, True)
        world.expire(30.5)
        status = world["b"]
        assert (status.alive, status.role, status.lag_ms) == (False, "unknown", None)
        assert status.reason == "no recent successful check"
        assert status.error == "Connection refused"
        assert world.master == "a"

    def test_nothing_is_forgotten_without_a_limit(self) -> None:
        assert healthy(max_staleness=0).expire(1e9)["b"].alive


RESULTS = st.one_of(
    st.builds(
        lambda lsn, timeline: (True, lsn, timeline),
        st.integers(0, 50),
        st.one_of(st.none(), st.integers(1, 3)),
    ),
    st.builds(lambda lsn, timeline: (False, lsn, timeline), st.integers(0, 50), st.integers(1, 3)),
    st.none(),
)


@given(
    story=st.lists(
        st.tuples(st.sampled_from("abc"), RESULTS, st.floats(0, 20), st.booleans()), max_size=40
    )
)
def test_no_story_of_checks_yields_a_wrong_answer(
    story: list[tuple[str, tuple[bool, int, int | None] | None, float, bool]],
) -> None:
    """Never a dead host, a negative lag, a lag of an unknown, or an outdated master."""
    world, at, last = World(), 0.0, dict[str, Observation | Failure]()
    for name, outcome, pause, again in story:
        at += pause
        result: Observation | Failure
        if outcome is None:
            result = refused(at)
        else:
            in_recovery, lsn, timeline = outcome
            result = replica(at, lsn, timeline) if in_recovery else master(at, lsn, timeline or 1)
        world.see(name, result, Look.RECHECK if again else Look.ROUND)
        last[name] = result
        snapshot = world.snapshot
        if snapshot.master:
            named = snapshot.master.timeline or 0
            assert all((status.timeline or 0) <= named for status in snapshot.hosts)
        for kind in Kind:
            for status in choose(snapshot, Thresholds().question(kind), Place()).hosts:
                assert status.alive
                assert status.role in {"master", "replica"}
                assert status.master or status.role == "replica"
        for status in snapshot.hosts:
            assert status.lag_ms is None or status.lag_ms >= 0
            assert status.lag_bytes is None or status.lag_bytes >= 0
            assert status.sync_by_time <= (status.alive and status.lag_ms is not None)
            assert status.sync_by_bytes <= (status.alive and status.lag_bytes is not None)
            if status.error is None and status.checked_at:
                assert isinstance(last[status.host.name], Observation)


class TestOtherHosts:
    """A reload: what is still worth remembering."""

    def of(self, *names: str) -> World:
        world = healthy().see("b", refused(5))
        world.state = world.state.among([Host(name, 5432, dc="x") for name in names])
        return world

    def test_hosts_that_stay_keep_what_is_known_of_them(self) -> None:
        hosts = self.of("c", "a", "b").snapshot.hosts
        assert [(h.host.name, h.role, h.possible_dead) for h in hosts] == [
            ("c", "replica", False), ("a", "master", False), ("b", "replica", True),
        ]  # fmt: skip
        assert hosts[0].sync_by_time
        assert hosts[0].host.dc == "x"

    def test_no_master_is_reported_until_every_host_was_checked_again(self) -> None:
        """What was known is from a moment ago: a failover may be under way."""
        world = self.of("a", "b", "d")
        assert not world.snapshot.ready
        world.see("b", master(6, timeline=2)).see("c", refused(6))  # b, and d
        assert not world.snapshot.ready
        assert world.see("a", refused(6)).snapshot.ready
        assert world.master == "b"

    def test_of_two_on_one_timeline_the_elected_one_remains(self) -> None:
        world = World().see_all(a=refused(0), b=refused(0), c=master(0, timeline=2))
        world.see("b", master(5, timeline=2))
        world.state = world.state.among(world.state.hosts)
        world.see_all(a=refused(6), b=master(6, timeline=2), c=master(6, timeline=2))
        assert world.master == "c"

    def test_a_removed_master_is_not_reported(self) -> None:
        world = self.of("b", "c").see_all(a=replica(6), b=replica(6))  # b and c
        assert world.snapshot.ready
        assert world.master is None

    def test_a_crashed_master_is_not_elected_while_its_successor_is_configured(self) -> None:
        world = World(rules=Rules(max_fails=1))
        world.see_all(a=master(0, timeline=2), b=refused(0), c=refused(0))
        world.state = world.state.among(world.state.hosts[:2])
        world.see_all(a=refused(5), b=master(5, timeline=1))
        assert world.snapshot.ready
        assert world.master is None

    def test_a_removed_host_is_no_evidence_for_its_timeline(self) -> None:
        world = World().see_all(a=master(0, timeline=2), b=refused(0), c=refused(0))
        world.state = world.state.among(world.state.hosts[1:])
        world.see_all(a=master(5, timeline=1), b=refused(5))  # b and c
        assert world.snapshot.ready
        assert world.master == "b"

    def test_other_hosts_altogether_begin_anew(self) -> None:
        state = self.of("x", "y").state
        assert state == State.of(state.hosts)
