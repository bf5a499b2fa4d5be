"""What the record of a campaign says: how fast, how often wrong, and whether anything was lost."""

from dataclasses import dataclass
from statistics import median

from tests.chaos.observer import Observer
from tests.chaos.truth import Reign, Truth


@dataclass
class Verdict:
    """Of one pg-status. Times in seconds."""

    url: str
    after_promotion: dict[str, list[float]]
    """By kind of event: from the end of the promotion to the right answer, after which nobody else
    was named. (Nobody at all may have been: a later event can end the master for a while.)
    """
    wrong: int
    """Answers that named somebody else after the right one could have been known."""
    lost_writes: int
    """Writes sent to a lost timeline after that."""
    false_in_sync: list[str]
    asked: int
    judged: int
    failed: int

    @property
    def is_good(self) -> bool:
        return not self.wrong and not self.lost_writes and not self.false_in_sync

    def __str__(self) -> str:
        lines = [f"{self.url}: {self.asked} questions, {self.failed} unanswered"]
        lines += [
            f"  {event:<20} {len(times):>3} times   right after: median {median(times):6.3f} s, "
            f"worst {max(times):6.3f} s"
            for event, times in sorted(self.after_promotion.items())
        ]
        lines += [
            f"  wrong answers, when the right one could be known   {self.wrong}",
            f"  writes lost, when the right host could be known    {self.lost_writes}",
            f"  false 'in sync' (of {self.judged} claims)   {len(self.false_in_sync)}",
        ]
        return "\n".join([*lines, *(f"    {text}" for text in self.false_in_sync[:5])])


def judge(truth: Truth, observer: Observer, until: float, sleep: float) -> Verdict:
    """``sleep``: the pause between two checks, after which a promotion can be known of."""
    after: dict[str, list[float]] = {}
    wrong = 0
    known: list[tuple[Reign, float]] = []
    ends = [reign.promoting for reign in truth.reigns[1:]] + [until]
    for reign, end in zip(truth.reigns, ends, strict=True):
        spans = _spans(observer, reign.began, end)
        right = [start for start, host in spans if host == reign.address]
        could_know = min([reign.began + sleep + 0.5, *right])
        late = [start for start, host in spans if host not in {"", reign.address}]
        wrong += sum(start > could_know for start in late)
        known.append((reign, could_know))
        if reign.event != "start":
            settled = min((at for at in right if at >= max(late, default=at)), default=end)
            after.setdefault(reign.event, []).append(max(0.0, settled - reign.began))
    return Verdict(
        url=observer.url,
        after_promotion=after,
        wrong=wrong,
        lost_writes=_lost_writes(truth, observer, known),
        false_in_sync=observer.false_in_sync,
        asked=observer.asked,
        judged=observer.judged,
        failed=observer.failed,
    )


def _spans(observer: Observer, began: float, end: float) -> list[tuple[float, str]]:
    """The answers between two moments, the one that held at the first included."""
    before = [a.host for a in observer.answers if a.at <= began]
    spans = [(began, before[-1])] if before else []
    return spans + [(a.at, a.host) for a in observer.answers if began < a.at < end]


def _lost_writes(truth: Truth, observer: Observer, known: list[tuple[Reign, float]]) -> int:
    """Rows that a told client wrote, sent after the right host could be known, and not there."""
    survived = {
        row[0]
        for row in truth.cluster.primary.sql(
            "SELECT answered FROM written WHERE url = %s", observer.url
        )
    }
    lost = 0
    for answer in observer.answers:
        reigning = [(reign, at) for reign, at in known if reign.began <= answer.at]
        if not answer.host or not reigning:
            continue
        reign, could_know = reigning[-1]
        sent_astray = answer.host != reign.address and answer.at > could_know
        lost += sent_astray and answer.at not in survived
    return lost
