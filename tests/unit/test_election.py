"""Which host is elected, as a table."""

import pytest

from pgstatus.core.election import Candidate, SplitBrain, elect

OK, ILL, FOLLOWED, ILL_FOLLOWED = "ok", "ill", "ok followed", "ill followed"


def candidates(*claims: tuple[int, int | None, str]) -> list[Candidate]:
    return [
        Candidate(index, f"h{index}", timeline, "ok" in state, "followed" in state)
        for index, timeline, state in claims
    ]


@pytest.mark.parametrize(
    ("claims", "newest", "current", "policy", "winner"),
    [
        pytest.param([], None, None, "newest_timeline", None, id="no candidate"),
        pytest.param([(1, 1, OK)], 1, None, "newest_timeline", 1, id="one"),
        pytest.param([(0, 1, OK), (1, 2, OK)], 2, 0, "newest_timeline", 1, id="newer over first"),
        pytest.param([(0, 1, OK), (1, 2, ILL)], 2, 1, "newest_timeline", 1, id="over health"),
        pytest.param([(0, 1, OK)], 2, 1, "newest_timeline", None, id="the newest is dead"),
        pytest.param([(0, 2, OK), (1, 2, OK)], 2, 1, "newest_timeline", 1, id="equals: current"),
        pytest.param([(0, 2, OK), (1, 2, OK)], 2, None, "newest_timeline", 0, id="equals: first"),
        pytest.param([(0, 2, ILL), (1, 2, OK)], 2, 0, "newest_timeline", 0, id="one failed check"),
        pytest.param([(0, 2, ILL), (1, 2, OK)], 2, None, "newest_timeline", 1, id="at the start"),
        pytest.param([(1, 2, OK)], 2, 0, "newest_timeline", 1, id="equals: the other is dead"),
        pytest.param(
            [(0, 2, OK), (1, 2, FOLLOWED)], 2, 0, "newest_timeline", 1, id="equals: replicas decide"
        ),
        pytest.param(
            [(0, 2, OK), (1, 2, ILL_FOLLOWED)], 2, 0, "newest_timeline", 1, id="also if it is ill"
        ),
        pytest.param(
            [(0, 2, FOLLOWED), (1, 2, FOLLOWED)], 2, 1, "newest_timeline", 1, id="both: current"
        ),
        pytest.param(
            [(0, 1, FOLLOWED), (1, 2, OK)], 2, 0, "newest_timeline", 1, id="timeline over replicas"
        ),
        pytest.param([(0, None, OK)], 2, None, "newest_timeline", 0, id="timeline unknown"),
        pytest.param([(0, 1, OK), (1, 2, OK)], 2, 1, "first", 0, id="2.2: list order"),
        pytest.param([(0, 1, OK)], 2, 1, "first", 0, id="2.2: an old one"),
        pytest.param([(0, 1, OK), (1, 2, OK)], 2, 1, "none", None, id="none: no master"),
        pytest.param([(0, 1, ILL), (1, 2, OK)], 2, 0, "none", 1, id="none: failover"),
    ],
)
def test_winner(
    claims: list[tuple[int, int | None, str]],
    newest: int | None,
    current: int | None,
    policy: str,
    winner: int | None,
) -> None:
    election = elect(
        candidates(*claims), newest_timeline=newest, current=current, policy=SplitBrain(policy)
    )
    assert election.winner == winner
    assert winner not in election.reasons


def test_policy_none_mentions_both() -> None:
    election = elect(
        candidates((0, 1, OK), (2, 2, OK)), newest_timeline=2, current=0, policy=SplitBrain.NONE
    )
    assert election.split_brain
    assert "h0 (timeline 1), h2 (timeline 2)" in election.reasons[0]


def test_the_reason_of_an_outdated_master() -> None:
    election = elect(
        candidates((0, 1, OK)), newest_timeline=2, current=None, policy=SplitBrain.NEWEST_TIMELINE
    )
    assert "timeline 1, but timeline 2 exists: its new writes will be lost" in election.reasons[0]


def test_an_outdated_master_that_does_not_respond_may_accept_no_writes() -> None:
    election = elect(
        candidates((0, 1, ILL)),
        newest_timeline=2,
        current=None,
        policy=SplitBrain.NEWEST_TIMELINE,
    )
    assert election.reasons[0] == (
        "master on timeline 1, but timeline 2 exists; rebuild it as a replica"
    )
