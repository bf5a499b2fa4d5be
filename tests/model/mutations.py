"""``python -m tests.model.mutations``: does the model find the faults that the rules prevent?

Each mutation replaces one rule by what it was before an incident was understood. The table contains
the number of sequences until the model reported it. The sequences are the same in every run.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf
from types import ModuleType
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pgstatus.core import decision, evidence, lag, selection, tracker, view
from pgstatus.core import election as election_module
from pgstatus.core import state as state_module
from pgstatus.core.election import Election
from pgstatus.core.lag import WalHistory, is_ahead
from pgstatus.core.selection import Fallback, Question
from pgstatus.core.snapshot import HostStatus
from pgstatus.core.state import Record, State
from tests.model.machine import Machine

_LIMIT = 5000


@dataclass(frozen=True)
class Mutation:
    """``patches``: owner, attribute, what takes its place."""

    incident: str
    change: str
    patches: Sequence[tuple[ModuleType | type, str, Any]]


def _majority(state: State) -> int | None:
    """Dead hosts vote."""
    known = [r.system_identifier for r in state.records if r.system_identifier is not None]
    return evidence.most_common(known, state.system_identifier)


def _shows_an_older_timeline(record: Record, newest: int, *, wrote: bool) -> bool:
    timeline = None if record.seen is None else record.seen.timeline
    return timeline is not None and timeline < newest


def _does_not_show_it(record: Record, newest: int, *, wrote: bool) -> bool:
    """Hosts that cannot be reached are not evidence either."""
    return evidence._shown(record) != newest


def _all_samples(
    self: WalHistory, writer: str, timeline: int | None, in_recovery_at: float | None
) -> WalHistory:
    return replace(self, writer=writer, timeline=timeline)


def _healthy_first(original: Callable[..., Election]) -> Callable[..., Election]:
    """The healthy one, then the one elected before, then list order."""

    def elect(candidates: Any, **rest: Any) -> Election:
        plain = [replace(c, followed=c.healthy) for c in candidates]
        return original(plain, **rest)

    return elect


def _without_replicas(original: Callable[..., Election]) -> Callable[..., Election]:
    def elect(candidates: Any, **rest: Any) -> Election:
        return original([replace(c, followed=False) for c in candidates], **rest)

    return elect


def _not_sticky(original: Callable[..., str | None]) -> Callable[..., str | None]:
    def contradiction(state: State, record: Record) -> str | None:
        ahead = record.seen is not None and is_ahead(state.history, record.seen)
        return original(state, record._replace(refuted_at=0 if ahead else None))

    return contradiction


def _trusting(state: State, record: Record, seen: object) -> str | None:
    return None


def _refused_is_down(state: State, streams: object, now: float) -> float | None:
    """A refused connection alone counts as down."""
    for host, record in zip(state.hosts, state.records, strict=True):
        if str(host) == state.history.writer and decision._is_down(record):
            return now if state.down_since is None else state.down_since
    return None


def _though_it_is_down(master: HostStatus, question: Question) -> bool:
    return question.fallback is not Fallback.NONE and not selection.is_outdated(master, question)


def _contradictions(changed: Callable[..., str | None]) -> list[tuple[ModuleType, str, Any]]:
    return [(module, "contradiction", changed) for module in (tracker, view)]


_ELECT = election_module.elect
_end = tracker._end


def _capped(history: WalHistory, seen: Any, until: float = inf) -> float | None:
    newest = history.newest
    return lag.time_lag(history, seen, min(until, newest.taken if newest else until))


def _only_lsn(status: HostStatus, question: Any) -> str | None:
    reached = question.min_lsn is None or (status.lsn or 0) >= question.min_lsn
    return None if reached else "not reached"


MUTATIONS = (
    Mutation(
        "reads while the primary is down",
        "it is never known to be down",
        [(decision, "_down_since", lambda *_: None)],
    ),
    Mutation(
        "reads while the primary is down",
        "byte lag is unknown without it",
        [(tracker, "_end", lambda state: None if not state.has_healthy_master else _end(state))],
    ),
    Mutation(
        "reads while the primary is down",
        "the lag before the outage is not used",
        [(tracker, "_is_sudden", lambda *_: False)],
    ),
    Mutation(
        "reads while the primary is down",
        "a master that is down answers",
        [(selection, "_may_fall_back", _though_it_is_down)],
    ),
    Mutation(
        "reads while the primary is down",
        "a refused connection is enough (smart shutdown)",
        [(decision, "_down_since", _refused_is_down)],
    ),
    Mutation(
        "replica ahead of its primary",
        "a refutation lasts until the next check only",
        _contradictions(_not_sticky(state_module.contradiction)),
    ),
    Mutation(
        "two replicas promoted on the same timeline",
        "an unproven replica is always trusted",
        [(state_module, "_unproven", _trusting)],
    ),
    Mutation(
        "role moved by one failed check",
        "health decides first",
        [(decision, "elect", _healthy_first(_ELECT))],
    ),
    Mutation(
        "changed system identifier", "dead hosts vote", [(evidence, "_identifier", _majority)]
    ),
    Mutation(
        "reverted promotion",
        "only a timeline that is shown discards the evidence",
        [(evidence, "_is_rebuilt", _shows_an_older_timeline)],
    ),
    Mutation(
        "reverted promotion",
        "the opposite: a host that cannot be reached is no evidence",
        [(evidence, "_is_rebuilt", _does_not_show_it)],
    ),
    Mutation(
        "lag after a fork",
        "all samples of the former timeline remain",
        [(WalHistory, "continued_by", _all_samples)],
    ),
    Mutation(
        "(lag)",
        "time lag does not grow while the master is silent",
        [(tracker, "time_lag", _capped)],
    ),
    Mutation(
        "(selection)",
        "min_lsn is compared across histories",
        [(selection, "_behind", _only_lsn)],
    ),
    Mutation(
        "(performance)",
        "a status is reused although the master has changed",
        [(view, "_Context", lambda *_: ())],
    ),
)


def sequences_until_found(mutation: Mutation, limit: int = _LIMIT) -> int | None:
    """How many sequences the model needed; None: it has not found the fault."""

    class Mutated(Machine):
        started = 0

    with ExitStack() as stack:
        for owner, name, changed in mutation.patches:
            stack.enter_context(patch.object(owner, name, changed))
        try:
            run_state_machine_as_test(
                Mutated,
                settings=settings(
                    max_examples=limit,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=(Phase.generate,),
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except Exception:  # an assertion of the model, or of hypothesis about a failing sequence
            return max(1, Mutated.started - 1)  # the last one is the repetition for the report
    return None


def main(limit: int) -> int:
    missed = 0
    for mutation in MUTATIONS:
        found = sequences_until_found(mutation, limit)
        missed += found is None
        text = f"not within {limit}" if found is None else str(found)
        sys.stdout.write(f"| {mutation.incident} | {mutation.change} | {text} |\n")
        sys.stdout.flush()
    return missed


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else _LIMIT))
