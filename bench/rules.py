"""``python -m bench.rules``: CPU time of the rules (fold, view and events) per round of checks."""

import sys
from datetime import UTC, datetime
from statistics import median
from time import process_time

from pgstatus.core.changes import events
from pgstatus.core.snapshot import Failure, Host, Observation, Standby
from pgstatus.core.state import Rules, State
from pgstatus.core.tracker import expire, fold
from pgstatus.core.view import view
from pgstatus.errors import Cause

_HOSTS = (3, 100, 300)
_REPEATS = 15


def main() -> None:
    lines = [
        f"CPU time of the rules per round, ms (median of {_REPEATS} rounds)",
        f"{'hosts':>5} {'busy':>8} {'idle':>8} {'refusing':>8} {'failover':>8}",
    ]
    for hosts in _HOSTS:
        figures = (
            _rounds(hosts, busy=True),
            _rounds(hosts, busy=False),
            _rounds(hosts, busy=True, healthy=3),
            median(_failover(hosts) for _ in range(3)),
        )
        lines.append(f"{hosts:>5} " + " ".join(f"{seconds * 1000:8.2f}" for seconds in figures))
    sys.stdout.write("\n".join(lines) + "\n")


def _rounds(hosts: int, *, busy: bool, healthy: int | None = None) -> float:
    """A master that writes (``busy``) or not; all hosts after the first ``healthy`` refuse."""
    rounds = _Rounds(hosts)
    return median(
        rounds.check(1000 * number * busy, healthy or hosts) for number in range(_REPEATS + 5)
    )


def _failover(hosts: int) -> float:
    """The round in which all replicas follow a new master."""
    rounds = _Rounds(hosts)
    rounds.check(1000, hosts)
    rounds.check(2000, hosts)
    rounds.master, rounds.timeline = 1, 2
    return rounds.check(3000, hosts)


class _Rounds:
    def __init__(self, hosts: int) -> None:
        self.rules = Rules(sleep=1.0)
        self.state = State.of([Host(f"pg{index}", 5432) for index in range(hosts)])
        self.shown = view(self.state, self.rules)
        self.now = 1000.0
        self.master, self.timeline = 0, 1

    def check(self, lsn: int, healthy: int) -> float:
        """The CPU time of one round."""
        self.now += 1.0
        results = [self._result(index, lsn, healthy) for index in range(len(self.state.hosts))]
        at = datetime.now(UTC)
        began = process_time()
        for index, result in enumerate(results):
            self.state = expire(self.state, result.finished, self.rules)
            self.state = fold(self.state, index, result, at, self.rules)
            before, self.shown = self.shown, view(self.state, self.rules, self.shown)
            list(events(before, self.shown))
        return process_time() - began

    def _result(self, index: int, lsn: int, healthy: int) -> Observation | Failure:
        started = self.now + index / 1e5
        if index >= healthy:
            return Failure(Cause.CONNECT, "Connection refused", started, started, down=True)
        is_master = index == self.master
        return Observation(
            in_recovery=not is_master,
            lsn=1_000_000 + lsn,
            timeline=self.timeline,
            receiving=not is_master,
            system_identifier=1,
            host_time=started,
            replayed_at=None if is_master else started - 0.01,
            started=started,
            finished=started + 0.001,
            addresses=frozenset({_address(index)}),
            upstream=None if is_master else (_address(self.master), 5432),
            received_lsn=None if is_master else 1_000_000 + lsn,
            standbys=tuple(
                Standby(_address(other), f"pg{other}", "streaming", "async")
                for other in range(healthy)
                if other != index
            )
            if is_master
            else (),
        )


def _address(index: int) -> str:
    return f"10.0.{index // 256}.{index % 256}"


if __name__ == "__main__":
    main()
