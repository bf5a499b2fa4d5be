"""Why a question is or is not answered with a host, in words. Pure, and with the same rules as the
answer itself: `selection` decides, this module only says which of its steps it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pgstatus.core.selection import (
    Kind,
    Place,
    Question,
    choose,
    is_outdated,
    not_first,
    objection,
    outdated,
    possibly_dead,
    why_not_master,
)
from pgstatus.core.snapshot import HostStatus, Snapshot


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a question may be answered with this host, and why."""

    status: HostStatus
    chosen: bool
    why: str


def explain(snapshot: Snapshot, question: Question, place: Place) -> tuple[Verdict, ...]:
    """A verdict on every host, in list order."""
    chosen = choose(snapshot, question, place)
    return tuple(
        Verdict(status, True, _why_chosen(status, question))
        if any(status is other for other in chosen)
        else Verdict(status, False, _why_not(status, question, chosen))
        for status in snapshot.hosts
    )


def _why_chosen(status: HostStatus, question: Question) -> str:
    words = "is the master" if status.master else "fits"
    if status.possible_dead:
        words += f", {possibly_dead(status)}"
    if status.master and question.kind is not Kind.MASTER:
        words += ": no healthy replica fits"
    return words


def _why_not(status: HostStatus, question: Question, chosen: Sequence[HostStatus]) -> str:
    if question.kind is Kind.MASTER:
        return why_not_master(status)
    if status.master:
        if is_outdated(status, question):
            return outdated(status, question)
        return "is the master: named only where no healthy replica fits"
    return objection(status, question) or _why_not_first(status, question, chosen)


def _why_not_first(status: HostStatus, question: Question, chosen: Sequence[HostStatus]) -> str:
    if status.possible_dead and not any(other.possible_dead for other in chosen):
        return f"fits, but {not_first(status)}"
    named = ", ".join(str(other.host) for other in chosen)
    if question.kind is Kind.MOST_SYNC_BY_BYTES:
        return f"fits, but {named} has less to catch up or comes first in the list"
    return f"fits, but {named} is nearer"
