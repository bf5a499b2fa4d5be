"""Short forms for the results of checks, and for a snapshot after a sequence of results."""

from datetime import UTC, datetime

from pgstatus.core.snapshot import Failure, Host, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, Rules, State
from pgstatus.core.tracker import expire, fold
from pgstatus.core.view import view
from pgstatus.errors import Cause

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLUSTER = 7_000_000_000_000_000_001
CLOCK = 1_700_000_000.0
"""The time of the hosts' clocks at moment 0 of this process."""


def master(at: float, lsn: int = 1000, timeline: int = 1, **changes: object) -> Observation:
    """A host that is not in recovery, checked at ``at`` (our clock) within 1 ms."""
    values: dict[str, object] = {
        "in_recovery": False,
        "lsn": lsn,
        "timeline": timeline,
        "receiving": False,
        "system_identifier": CLUSTER,
        "host_time": CLOCK + at,
        "replayed_at": None,
        "started": at,
        "finished": at + 0.001,
    }
    return Observation(**(values | changes))  # type: ignore[arg-type]


def replica(
    at: float, lsn: int | None = 1000, timeline: int | None = 1, **changes: object
) -> Observation:
    """A host in recovery that receives WAL."""
    values = {"in_recovery": True, "timeline": timeline, "receiving": True}
    return master(at, **(values | {"lsn": lsn} | changes))  # type: ignore[arg-type]


def refused(at: float) -> Failure:
    """A check that failed immediately: the server is not running."""
    return Failure(Cause.CONNECT, "Connection refused", at, at + 0.001, down=True)


def silent(at: float) -> Failure:
    """A check without a response."""
    return Failure(Cause.TIMEOUT, "no response to the query within 1 s", at, at + 1.0)


class World:
    """A cluster of hosts ``a``, ``b``, ``c`` and so on; `see` folds the result of one check."""

    def __init__(self, hosts: int = 3, rules: Rules | None = None, **place: str) -> None:
        self.rules = rules or Rules()
        self.time = NOON
        self._last: Snapshot | None = None
        self.state = State.of([Host("abcdefgh"[i], 5432) for i in range(hosts)])

    def see(self, name: str, result: Observation | Failure, look: Look = Look.ROUND) -> "World":
        index = "abcdefgh".index(name)
        self.state = fold(self.state, index, result, self.time, self.rules, look)
        return self

    def at(self, time: datetime) -> "World":
        """The time of day of the checks that follow."""
        self.time = time
        return self

    def see_all(self, **results: Observation | Failure) -> "World":
        for name, result in results.items():
            self.see(name, result)
        return self

    def expire(self, now: float) -> "World":
        self.state = expire(self.state, now, self.rules)
        return self

    @property
    def snapshot(self) -> Snapshot:
        """What is served; it must not depend on the snapshot before."""
        fresh = view(self.state, self.rules)
        self._last = view(self.state, self.rules, self._last)
        assert self._last == fresh
        return fresh

    @property
    def master(self) -> str | None:
        status = self.snapshot.master
        return status.host.name if status else None

    def __getitem__(self, name: str) -> HostStatus:
        return self.snapshot.hosts["abcdefgh".index(name)]
