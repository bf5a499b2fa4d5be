"""The figures of one stack in one scenario."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from bench.stacks.load import Operation

HEADER = (
    "scenario", "stack", "writes", "failed", "last failure", "slowest", "longest gap",
    "reads", "failed", "not found", "hosts of the reads", "errors",
)  # fmt: skip


def row(
    scenario: str,
    stack: str,
    operations: list[Operation],
    *,
    reported: float | None,
    master: str,
    late: tuple[str, float, float],
) -> list[str]:
    """One line of the table.

    reported: when pg-status reported the new master; times of failures are relative to it.
    late: the host that was late, and since and until when it must not be read.
    """
    writes = [each for each in operations if each.kind == "write"]
    reads = [each for each in operations if each.kind == "read"]
    failed = [each for each in writes if each.error]
    last = max((each.ended for each in failed), default=None)
    good = sorted(each.ended for each in writes if not each.error)
    gaps = [after - before for before, after in pairwise(good)]
    name, since, until = late
    too_late = sum(each.host == name and since < each.began < until for each in reads)
    hosts = Counter(each.host for each in reads if not each.error)
    missing = [each for each in reads if not each.error and not each.found]
    return [
        scenario,
        stack,
        str(len(writes)),
        str(len(failed)),
        "" if last is None or reported is None else f"{last - reported:+.2f} s",
        _ms(each.ended - each.began for each in writes if not each.error),
        _ms(gaps),
        str(len(reads)),
        str(sum(bool(each.error) for each in reads)),
        str(len(missing)),
        _shares(hosts, master) + (f", {too_late} from the late one" if name else ""),
        ", ".join(f"{count} {error}" for error, count in _errors(operations).most_common(4)),
    ]


def _errors(operations: list[Operation]) -> Counter[str]:
    return Counter(each.error for each in operations if each.error)


def _ms(seconds: Iterable[float]) -> str:
    return f"{max(seconds, default=0) * 1000:.0f} ms"


def _shares(hosts: Counter[str], master: str) -> str:
    total = hosts.total() or 1
    return " ".join(
        f"{count / total:.0%}{' (master)' if host == master else ''}"
        for host, count in sorted(hosts.items())
    )
