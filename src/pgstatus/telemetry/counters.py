"""Counters since the start, as plain numbers; `prometheus` renders them.

A cached response takes microseconds, so counting must cost almost nothing. Each counter is an
attribute that only one thread increases, without a lock; other threads may read it at any time.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from pgstatus.core.snapshot import Failure, Host, Observation, Role
from pgstatus.errors import Cause

DURATION_LIMITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets for the duration of checks, seconds."""


class RequestKind(NamedTuple):
    """Requests that are counted together."""

    endpoint: str
    """The path of the route; ``other`` for paths without a route."""
    status: str
    fell_back: bool
    """A request for a replica was answered with the master."""
    cluster: str | None = None
    """That the path names."""


class Tally:
    """A number that only increases."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Requests:
    """Answered requests by kind; increased only by the event loop of the worker."""

    def __init__(self) -> None:
        self._tallies: dict[RequestKind, Tally] = {}

    def of(self, kind: RequestKind) -> Tally:
        """The tally of a kind, to be increased with each response."""
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._tallies[kind] = Tally()
        return tally

    def forget(self, cluster: str) -> None:
        """Remove the numbers of a cluster that was removed. Safe in any thread."""
        for kind in [kind for kind in self._tallies.copy() if kind.cluster == cluster]:
            self._tallies.pop(kind, None)

    def read(self) -> dict[RequestKind, int]:
        """The current numbers."""
        return {kind: tally.count for kind, tally in self._tallies.copy().items()}


class Watchers:
    """The subscribers of event streams; changed only by the event loop of the worker."""

    def __init__(self) -> None:
        self.count = 0
        """Subscribers now, including long polls that wait."""
        self.events = 0
        """Events sent since the start."""


class HostChecks:
    """The checks of one host; increased only by the monitoring thread."""

    def __init__(self) -> None:
        self.durations = [0] * (len(DURATION_LIMITS) + 1)
        """Checks by the smallest of `DURATION_LIMITS` that was not exceeded; last: all others."""
        self.seconds = 0.0
        # All causes exist from the start: rate() ignores the step from no value to 1.
        self.failures: Counter[Cause] = Counter(dict.fromkeys(Cause, 0))
        self.role_changes = 0
        """Successful checks that showed another role than the one before."""
        self.role: Role | None = None
        """The role in the last successful check."""


class Checks:
    """The checks of all monitored hosts, by ``name:port``."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostChecks] = {}

    def watch(self, hosts: Iterable[Host]) -> None:
        """Count for these hosts from now on, and remove the counters of all others."""
        self.hosts = {str(host): self.hosts.get(str(host), HostChecks()) for host in hosts}

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        """Count the result of a check that took ``seconds``, login included."""
        counts = self.hosts.get(str(host))
        if counts is None:  # the last check of a host that was removed
            return
        counts.durations[bisect_left(DURATION_LIMITS, seconds)] += 1
        counts.seconds += seconds
        if isinstance(result, Failure):
            counts.failures[result.cause] += 1
            return
        if counts.role not in {None, result.role}:
            counts.role_changes += 1
        counts.role = result.role
