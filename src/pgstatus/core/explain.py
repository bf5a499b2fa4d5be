"""Why a question is or is not answered with a host, in words. Pure, and with the rules of the
answer itself: `selection` decides, this module only describes the decisive step.
"""

from dataclasses import dataclass

from pgstatus.core.selection import (
    Choice,
    Fallback,
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
    choice = choose(snapshot, question, place)
    return tuple(
        Verdict(status, True, _why_chosen(status, question, choice))
        if any(status is other for other in choice.hosts)
        else Verdict(status, False, _why_not(status, question, choice))
        for status in snapshot.hosts
    )


def _why_chosen(status: HostStatus, question: Question, choice: Choice) -> str:
    words = "is the master" if status.master else "within the limits"
    if choice.stale:
        words = f"stale: {objection(status, question)}; no replica is within the limits"
    if status.possible_dead:
        words += f", {possibly_dead(status)}"
    if choice.fell_back:
        words += ": no healthy replica is within the limits"
    return words


def _why_not(status: HostStatus, question: Question, choice: Choice) -> str:
    why = _why_not_chosen(status, question, choice)
    return f"{why} ({status.error})" if status.error and not status.alive else why


def _why_not_chosen(status: HostStatus, question: Question, choice: Choice) -> str:
    if question.kind is Kind.MASTER:
        return why_not_master(status)
    if status.master:
        return _why_not_the_master(status, question)
    return objection(status, question) or _why_not_first(status, question, choice)


def _why_not_the_master(master: HostStatus, question: Question) -> str:
    if is_outdated(master, question):
        return outdated(master, question)
    if question.fallback is Fallback.NONE:
        return "is the master; fallback=none"
    if master.down:
        return f"is the master, {possibly_dead(master)}"
    return "is the master: used only if no healthy replica is within the limits"


def _why_not_first(status: HostStatus, question: Question, choice: Choice) -> str:
    if status.possible_dead and not any(other.possible_dead for other in choice.hosts):
        return f"within the limits, but {not_first(status)}"
    chosen = ", ".join(str(other.host) for other in choice.hosts)
    if question.kind is Kind.MOST_SYNC_BY_BYTES:
        return f"within the limits, but {chosen} has a lower byte lag or is listed first"
    return f"within the limits, but {chosen} is nearer"
