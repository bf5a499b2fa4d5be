"""The verdict of a campaign: how fast, how often wrong, what was lost, and what was refused."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from statistics import median

from tests.chaos.health import Health, Interval
from tests.chaos.knowledge import Knowledge
from tests.chaos.observer import Observer, Read
from tests.chaos.truth import Period, Truth

# Seconds in addition to the pause between two checks: a host that has been healthy for so long is
# known to be, and one that has been down for so long, too.
_KNOWN_HEALTHY = 1.5
_KNOWN_DOWN = 0.5
# Seconds after which the right host must have been returned at the latest, after it could be known.
_OVERDUE = 2.0
_SHOWN = 5
# Seconds that an event may precede the response to the next request.
_EARLY = 0.5

_ALWAYS = Knowledge()


@dataclass
class Verdict:
    """Of one pg-status. Times in seconds."""

    url: str
    after_promotion: dict[str, list[float]] = field(default_factory=dict)
    """By kind of event: from the end of the promotion to the correct response, after which no other
    host was returned.
    """
    notified_after: list[float] = field(default_factory=list)
    """From the first response of ``/master`` with another host to the event of ``/watch/master``;
    negative if the event came first."""
    wrong: int = 0
    """Responses and events with another host after the correct one could be known."""
    overdue: list[str] = field(default_factory=list)
    """Another host was still returned long after that."""
    lost_writes: int = 0
    """Writes sent to a lost timeline after that."""
    without_master: list[str] = field(default_factory=list)
    """Times without a master although the primary was healthy."""
    refused: list[str] = field(default_factory=list)
    """Reads without a host although a healthy one could have served them."""
    dead: list[str] = field(default_factory=list)
    """Reads answered with a dead host although a replica could have served them."""
    false_in_sync: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: int = 0
    reads: int = 0
    claims: int = 0
    failed: int = 0

    @property
    def problems(self) -> list[str]:
        """Why the verdict is not good; empty if it is."""
        counts = {
            "wrong responses": self.wrong,
            "overdue masters": len(self.overdue),
            "lost writes": self.lost_writes,
            "times without a master": len(self.without_master),
            "refused reads": len(self.refused),
            "reads answered with a dead host": len(self.dead),
            "false 'in sync'": len(self.false_in_sync),
            "other violations": len(self.violations),
        }
        missing = {
            "response to /master": self.requests,
            "read": self.reads,
            "verified claim": self.claims,
        }
        return [
            *(f"{number} {name}" for name, number in counts.items() if number),
            *(f"not one {name}" for name, number in missing.items() if not number),
        ]

    def __str__(self) -> str:
        requests = f"{self.requests} requests for the master, {self.reads} reads"
        lines = [f"{self.url}: {requests}, {self.failed} without response"]
        lines += [
            f"  {event:<18} {len(times):>3} times   correct after: median {median(times):6.3f} s, "
            f"worst {max(times):6.3f} s"
            for event, times in sorted(self.after_promotion.items())
        ]
        if self.notified_after:
            times = [1000 * seconds for seconds in self.notified_after]
            lines.append(
                f"  notified of {len(times)} changes, after the response to a request: "
                f"median {median(times):.0f} ms, worst {max(times):.0f} ms"
            )
        lines += [
            f"  wrong host although the correct one could be known   {self.wrong}",
            f"  writes lost although the right host could be known   {self.lost_writes}",
        ]
        for title, found in (
            (f"another host {_OVERDUE:g} s after that", self.overdue),
            ("no master although the primary was healthy", self.without_master),
            ("reads refused although a host could serve", self.refused),
            ("reads answered with a dead host", self.dead),
            (f"false 'in sync' ({self.claims} claims verified)", self.false_in_sync),
            ("other violations", self.violations),
        ):
            lines += [f"  {title:<52} {len(found)}", *(f"    {text}" for text in found[:_SHOWN])]
        result = ", ".join(self.problems)
        return "\n".join([*lines, f"  FAILED: {result}" if result else "  passed"])


def judge(
    truth: Truth,
    health: Health,
    observer: Observer,
    until: float,
    sleep: float,
    knowledge: Knowledge = _ALWAYS,
) -> Verdict:
    """``sleep``: the pause between two checks."""
    verdict = Verdict(
        observer.url,
        false_in_sync=observer.false_in_sync,
        violations=list(truth.violations),
        requests=observer.requests,
        reads=sum(not read.text.startswith("0 ") for read in observer.read),
        claims=observer.claims,
        failed=observer.failed,
    )
    known = _judge_masters(verdict, truth, observer, until, sleep, knowledge)
    verdict.notified_after = list(_notifications(observer))
    verdict.lost_writes = _lost_writes(truth, observer, known)
    verdict.without_master = _without_master(health, observer, until, sleep, knowledge)
    for read in observer.read:
        _judge_read(verdict, health, read, sleep, knowledge)
    return verdict


def _judge_masters(
    verdict: Verdict,
    truth: Truth,
    observer: Observer,
    until: float,
    sleep: float,
    knowledge: Knowledge,
) -> list[tuple[Period, Interval]]:
    """Returns for each period, and each process, the time in which its master could be known."""
    known: list[tuple[Period, Interval]] = []
    ends = [period.promoting for period in truth.periods[1:]] + [until]
    for period, end in zip(truth.periods, ends, strict=True):
        spans = _spans(observer, period.began, end)
        right = [span.began for span, host in spans if host == period.address]
        late = [span for span, host in spans if host not in {"", period.address}]
        for life in knowledge.lives(period.began, end):
            patience = sleep + period.patience + knowledge.outweighed
            could_know = min(
                [
                    knowledge.since(life.began, patience),
                    *(at for at in right if life.began <= at < life.ended),
                ]
            )
            verdict.wrong += sum(could_know < span.began < life.ended for span in late)
            verdict.wrong += sum(
                event.host not in {"", period.address} and could_know < event.at < life.ended
                for event in observer.notified
            )
            must_know = knowledge.since(life.began, patience + _OVERDUE)
            verdict.overdue += [
                f"{period.event} at {period.began:.3f}: for {span.ended - period.began:.3f} s"
                for span in late
                if span.began <= could_know and must_know < min(span.ended, life.ended)
            ]
            known.append((period, Interval(could_know, life.ended)))
        if period.event != "start":
            last = max((span.began for span in late), default=-inf)
            settled = min((at for at in right if at >= last), default=end)
            times = verdict.after_promotion.setdefault(period.event, [])
            times.append(max(0.0, settled - period.began))
    return known


def _notifications(observer: Observer) -> Iterator[float]:
    """The delay of the event for each change that lasted until the event after it."""
    changes = observer.answers[1:]
    ends = [*(answer.at for answer in changes), inf][1:]
    for answer, end in zip(changes, ends, strict=True):
        # The request may have been answered before the event was received, or a little later.
        arrived = [
            event.at
            for event in observer.notified
            if event.host == answer.host and answer.at - _EARLY < event.at < end
        ]
        if arrived:
            yield arrived[0] - answer.at


def _spans(observer: Observer, began: float, end: float) -> list[tuple[Interval, str]]:
    """The responses between two times, the one that was valid at the first included."""
    before = [a.host for a in observer.answers if a.at <= began]
    starts = [(began, before[-1])] if before else []
    starts += [(a.at, a.host) for a in observer.answers if began < a.at < end]
    ends = [*(at for at, _ in starts[1:]), end]
    return [(Interval(at, ended), host) for (at, host), ended in zip(starts, ends, strict=False)]


def _lost_writes(truth: Truth, observer: Observer, known: list[tuple[Period, Interval]]) -> int:
    """Rows that were written after the right host could be known, and do not exist any more."""
    survived = {
        row[0]
        for row in truth.cluster.primary.sql(
            "SELECT answered FROM written WHERE url = %s", observer.url
        )
    }
    # From the start of a promotion until its end no host is wrong.
    return sum(
        answer.host not in {"", period.address} and answer.at not in survived
        for period, times in known
        for answer in observer.answers
        if max(times.began, truth.created) < answer.at < times.ended
    )


def _without_master(
    health: Health, observer: Observer, until: float, sleep: float, knowledge: Knowledge
) -> list[str]:
    ends = [answer.at for answer in observer.answers[1:]] + [until]
    empty = [
        Interval(answer.at, end)
        for answer, end in zip(observer.answers, ends, strict=False)
        if not answer.host
    ]
    found = []
    for address, intervals in health.primary.items():
        for healthy in intervals:
            since = healthy.began + sleep + _KNOWN_HEALTHY + knowledge.outweighed
            for span in empty:
                began, ended = max(span.began, since), min(span.ended, healthy.ended)
                found += [
                    f"{address}: {known.ended - known.began:.3f} s at {known.began:.3f}"
                    for known in knowledge.within(began, ended)
                ]
    return found


def _judge_read(
    verdict: Verdict, health: Health, read: Read, sleep: float, knowledge: Knowledge
) -> None:
    margin = 0.1
    known = sleep + _KNOWN_HEALTHY + knowledge.outweighed
    since, until = read.began - known, read.ended + margin
    if not knowledge.covers(since, until):
        return
    if not read.host:
        if health.could_serve(since, until):
            verdict.refused.append(f"{read.path} at {read.began:.3f}: {read.text}")
        return
    down = read.began - _KNOWN_DOWN - knowledge.outweighed
    if health.was_down(read.host, down, until) and health.had_replica(since, until):
        verdict.dead.append(f"{read.path} at {read.began:.3f}: {read.host}")
