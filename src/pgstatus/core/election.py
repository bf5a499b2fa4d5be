"""Which of the hosts that are not in recovery is *the* master. The rules, in order:

1. A host of another cluster (``system_identifier``) is not a candidate.
2. A promotion begins a new timeline. Of two masters the one on the higher timeline was promoted
   later; it takes precedence over list order and over health until it is dead.
3. A master on an older timeline than the newest one known is never elected: it crashed, another
   server was promoted in its place, and what is written to it will be lost.
4. On the same timeline: the one from which live replicas stream, then the one elected before, then
   a healthy one, then the first in the list. A failed check alone does not move the role; a master
   loses it to a server without replicas only when it is dead.

``split_brain`` changes rules 2 to 4: ``first`` is list order among the healthy (as in pg-status
2.2); ``none`` elects no master while several healthy hosts are candidates. (A host that does not
respond is not counted: an ordinary failover is not a split brain.)

Source: PostgreSQL manual, "Continuous Archiving and Point-in-Time Recovery", Timelines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class SplitBrain(StrEnum):
    """The policy for several masters at the same time."""

    NEWEST_TIMELINE = "newest_timeline"
    FIRST = "first"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live host of the cluster that is not in recovery. ``index`` is its place in the list."""

    index: int
    name: str
    timeline: int | None
    healthy: bool
    followed: bool = False
    """Live replicas stream from it."""


@dataclass(frozen=True, slots=True)
class Election:
    """``winner`` is an index or None; ``reasons`` contains why the others were not elected."""

    winner: int | None = None
    reasons: dict[int, str] = field(default_factory=dict)
    split_brain: str | None = None
    """Why no master was elected, if there are several."""
    candidates: tuple[Candidate, ...] = ()


def split_brain(claims: Sequence[tuple[str, int | None]]) -> str:
    """A description of several masters (name, timeline)."""
    names = ", ".join(f"{name} (timeline {timeline})" for name, timeline in claims)
    return f"split brain: several masters: {names}"


def elect(
    candidates: Sequence[Candidate],
    *,
    newest_timeline: int | None,
    current: int | None,
    policy: SplitBrain,
) -> Election:
    """Choose among ``candidates`` (list order); ``current`` is the host elected before."""
    contested = [c for c in candidates if c.healthy]
    if policy is SplitBrain.NONE and len(contested) > 1:
        words = split_brain([(c.name, c.timeline) for c in contested])
        return Election(None, {c.index: words for c in candidates}, words, tuple(candidates))

    def preference(candidate: Candidate) -> tuple[bool, bool, bool, int]:
        return (
            not candidate.followed,
            candidate.index != current,
            not candidate.healthy,
            candidate.index,
        )

    if policy is SplitBrain.FIRST:
        eligible = sorted(candidates, key=lambda c: (not c.healthy, c.index))
    else:
        eligible = sorted(
            (c for c in candidates if not is_older(c.timeline, newest_timeline)), key=preference
        )
    winner = eligible[0] if eligible else None
    reasons = {
        c.index: _outdated(c, newest_timeline)
        if winner is None or is_older(c.timeline, newest_timeline)
        else f"also a master, on timeline {c.timeline}; {winner.name} is preferred"
        for c in candidates
        if c is not winner
    }
    return Election(None if winner is None else winner.index, reasons, None, tuple(candidates))


def is_older(timeline: int | None, newest: int | None) -> bool:
    """Both timelines are known, and the first one is older."""
    return timeline is not None and newest is not None and timeline < newest


def _outdated(candidate: Candidate, newest: int | None) -> str:
    timeline = candidate.timeline
    if not candidate.healthy:  # it is perhaps down, and accepts no writes then
        return (
            f"master on timeline {timeline}, but timeline {newest} exists; rebuild it as a replica"
        )
    return (
        f"master on timeline {timeline}, but timeline {newest} exists: its new writes will be "
        "lost; rebuild it as a replica"
    )
