"""Who is the master, as a table."""

import pytest

from pgstatus.core.election import Candidate, SplitBrain, cluster_identifier, elect


def candidates(*claims: tuple[int, int | None, bool]) -> list[Candidate]:
    return [Candidate(index, f"h{index}", timeline, healthy) for index, timeline, healthy in claims]


OK, ILL = True, False


@pytest.mark.parametrize(
    ("claims", "newest", "current", "policy", "winner"),
    [
        pytest.param([], None, None, "newest_timeline", None, id="nobody claims it"),
        pytest.param([(1, 1, OK)], 1, None, "newest_timeline", 1, id="one does"),
        pytest.param([(0, 1, OK), (1, 2, OK)], 2, 0, "newest_timeline", 1, id="newer over first"),
        pytest.param([(0, 1, OK), (1, 2, ILL)], 2, 1, "newest_timeline", 1, id="over health"),
        pytest.param([(0, 1, OK)], 2, 1, "newest_timeline", None, id="the newest is dead"),
        pytest.param([(0, 2, OK), (1, 2, OK)], 2, 1, "newest_timeline", 1, id="equals: current"),
        pytest.param([(0, 2, OK), (1, 2, OK)], 2, None, "newest_timeline", 0, id="equals: first"),
        pytest.param([(0, 2, ILL), (1, 2, OK)], 2, 0, "newest_timeline", 1, id="equals: healthy"),
        pytest.param([(0, None, OK)], 2, None, "newest_timeline", 0, id="timeline unknown"),
        pytest.param([(0, 1, OK), (1, 2, OK)], 2, 1, "first", 0, id="2.2: list order"),
        pytest.param([(0, 1, OK)], 2, 1, "first", 0, id="2.2: an old one"),
        pytest.param([(0, 1, OK), (1, 2, OK)], 2, 1, "none", None, id="none: nobody"),
        pytest.param([(0, 1, ILL), (1, 2, OK)], 2, 0, "none", 1, id="none: failover"),
    ],
)
def test_winner(
    claims: list[tuple[int, int | None, bool]],
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


def test_policy_none_names_both() -> None:
    election = elect(
        candidates((0, 1, OK), (2, 2, OK)), newest_timeline=2, current=0, policy=SplitBrain.NONE
    )
    assert election.split_brain
    assert "h0 (timeline 1) and h2 (timeline 2)" in election.reasons[0]


def test_an_outdated_master_is_told_why() -> None:
    election = elect(
        candidates((0, 1, OK)), newest_timeline=2, current=None, policy=SplitBrain.NEWEST_TIMELINE
    )
    assert "timeline 1, but timeline 2 has been seen" in election.reasons[0]


@pytest.mark.parametrize(
    ("known", "current", "cluster"),
    [
        ([None, None], None, None),
        ([None, None], 5, 5),
        ([5, 6, 6], None, 6),
        ([5, 6, 6], 5, 6),
        ([5, 6], 6, 6),
        ([5, 6], None, 5),
        ([None, 6], 5, 6),
    ],
)
def test_the_cluster_is_that_of_most_hosts(
    known: list[int | None], current: int | None, cluster: int | None
) -> None:
    assert cluster_identifier(known, current) == cluster
