"""Short ways to say what a check saw, and to fold a story of checks into a snapshot."""

from datetime import UTC, datetime

from pgstatus.core.snapshot import Failure, Host, HostStatus, Observation, Snapshot
from pgstatus.core.state import Look, Rules, State
from pgstatus.core.tracker import expire, fold
from pgstatus.core.view import view
from pgstatus.errors import Cause

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLUSTER = 7_000_000_000_000_000_001
CLOCK = 1_700_000_000.0
"""What the hosts' clocks show at our moment 0."""


def master(at: float, lsn: int = 1000, timeline: int = 1, **changes: object) -> Observation:
    """A host that is not in recovery, asked at ``at`` (our clock) and answering in 1 ms."""
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
    """A host in recovery that receives log."""
    values = {"in_recovery": True, "timeline": timeline, "receiving": True}
    return master(at, **(values | {"lsn": lsn} | changes))  # type: ignore[arg-type]


def refused(at: float) -> Failure:
    """A check that failed at once."""
    return Failure(Cause.CONNECT, "Connection refused", at, at + 0.001)


class World:
    """A cluster of hosts ``a``, ``b``, ``c`` …; tell it what each check saw."""

    def __init__(self, hosts: int = 3, rules: Rules | None = None, **place: str) -> None:
        self.rules = rules or Rules()
        self.time = NOON
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
        return view(self.state, self.rules)

    @property
    def master(self) -> str | None:
        status = self.snapshot.master
        return status.host.name if status else None

    def __getitem__(self, name: str) -> HostStatus:
        return self.snapshot.hosts["abcdefgh".index(name)]
