"""Which of the hosts that say "I am the master" is *the* master. The rules, in order:

1. A host of another cluster (``system_identifier``) is no candidate. The cluster is the one that
   most hosts belong to.
2. A promotion begins a new timeline, so of two masters the one on the higher timeline was promoted
   later. It wins over list order and over health, until it is dead.
3. A master on an older timeline than one already seen is never named: it crashed, others were
   promoted in its place, and what is written to it will be thrown away.
4. On the same timeline the healthy one, then the one already named, then the first in the list.

``split_brain`` changes rules 2 and 3: ``first`` is list order (as pg-status 2.2 does), ``none``
names nobody while two that answer claim it. (One that has stopped answering claims nothing: an
ordinary failover is no split brain.)

Source: PostgreSQL manual, "Continuous Archiving and Point-in-Time Recovery", Timelines.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class SplitBrain(StrEnum):
    """What to do when more than one live host says it is the master."""

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


@dataclass(frozen=True, slots=True)
class Election:
    """``winner`` is an index or None; ``reasons`` says of the others why they lost."""

    winner: int | None
    reasons: dict[int, str]
    split_brain: str | None = None
    """Where nobody won because several claim it: who."""


def cluster_identifier(known: Sequence[int | None], current: int | None) -> int | None:
    """The identifier that most hosts have; of equals the current one, then the first listed."""
    counts = Counter(identifier for identifier in known if identifier is not None)
    if not counts:
        return current
    most = max(counts.values())
    if current is not None and counts[current] == most:
        return current
    return next(identifier for identifier, count in counts.items() if count == most)


def split_brain(claims: Sequence[tuple[str, int | None]]) -> str:
    """In words: which hosts (name, timeline) say they are the master."""
    names = " and ".join(f"{name} (timeline {timeline})" for name, timeline in claims)
    return f"split brain: {names} say they are the master"


def elect(
    candidates: Sequence[Candidate],
    *,
    newest_timeline: int | None,
    current: int | None,
    policy: SplitBrain,
) -> Election:
    """Choose among ``candidates`` (list order); ``newest_timeline`` is the highest ever seen."""
    contested = [c for c in candidates if c.healthy]
    if policy is SplitBrain.NONE and len(contested) > 1:
        words = split_brain([(c.name, c.timeline) for c in contested])
        reasons = {c.index: f"says it is the master, in a {words}" for c in candidates}
        return Election(None, reasons, words)

    def preference(candidate: Candidate) -> tuple[bool, bool, int]:
        return (not candidate.healthy, candidate.index != current, candidate.index)

    if policy is SplitBrain.FIRST:
        ranked = sorted(candidates, key=lambda c: (not c.healthy, c.index))
        eligible = ranked
    else:
        eligible = sorted(
            (c for c in candidates if not _is_older(c.timeline, newest_timeline)), key=preference
        )
    if not eligible:
        return Election(None, {c.index: _outdated(c.timeline, newest_timeline) for c in candidates})
    winner = eligible[0]
    reasons = {
        c.index: _outdated(c.timeline, newest_timeline)
        if _is_older(c.timeline, newest_timeline)
        else f"says it is the master on timeline {c.timeline}, and so does {winner.name}"
        for c in candidates
        if c is not winner
    }
    return Election(winner.index, reasons)


def _is_older(timeline: int | None, newest: int | None) -> bool:
    return timeline is not None and newest is not None and timeline < newest


def _outdated(timeline: int | None, newest: int | None) -> str:
    return (
        f"says it is the master on timeline {timeline}, but timeline {newest} has been seen: "
        "what is written there will be lost; rebuild it as a replica"
    )
