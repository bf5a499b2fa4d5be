"""What has been counted since the start, as plain numbers; `metrics` shows them.

Counting must cost next to nothing: a request from memory takes microseconds. So each counter is an
attribute that only one thread increases, without a lock; whoever reads sees a moment's value.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from pgstatus.core.snapshot import Failure, Host, Observation, Role
from pgstatus.errors import Cause

DURATION_LIMITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper limits of the histogram of checks, seconds: a round trip, up to a whole deadline."""


class RequestKind(NamedTuple):
    """Requests that are counted together."""

    endpoint: str
    """The path as it is routed; ``other`` for what is not."""
    status: str
    fell_back: bool
    """A question about replicas was answered with the master."""


class Tally:
    """A number that goes up."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Requests:
    """Answered requests by kind; counted by the worker's loop alone."""

    def __init__(self) -> None:
        self._tallies: dict[RequestKind, Tally] = {}

    def of(self, kind: RequestKind) -> Tally:
        """The tally of a kind; whoever answers increases it."""
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._tallies[kind] = Tally()
        return tally

    def read(self) -> dict[RequestKind, int]:
        """The numbers of this moment."""
        return {kind: tally.count for kind, tally in self._tallies.copy().items()}


class HostChecks:
    """The checks of one host; counted by the monitor alone."""

    def __init__(self) -> None:
        self.durations = [0] * (len(DURATION_LIMITS) + 1)
        """Checks by the first of `DURATION_LIMITS` that they kept to; the last: by none."""
        self.seconds = 0.0
        # Each from the start: rate() does not see the step from nothing to one.
        self.failures: Counter[Cause] = Counter(dict.fromkeys(Cause, 0))
        self.role_changes = 0
        """Times that it said something else of itself than before."""
        self.role: Role | None = None
        """What it last said."""


class Checks:
    """The checks of all hosts that are watched, by ``name:port``."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostChecks] = {}

    def watch(self, hosts: Iterable[Host]) -> None:
        """Count for these from now on, and forget the others: no series survives its host."""
        self.hosts = {str(host): self.hosts.get(str(host), HostChecks()) for host in hosts}

    def checked(self, host: Host, result: Observation | Failure) -> None:
        """Count the result of a check."""
        counts = self.hosts.get(str(host))
        if counts is None:  # the last check of a host that is watched no more
            return
        took = result.finished - result.started
        counts.durations[bisect_left(DURATION_LIMITS, took)] += 1
        counts.seconds += took
        if isinstance(result, Failure):
            counts.failures[result.cause] += 1
            return
        if counts.role not in {None, result.role}:
            counts.role_changes += 1
        counts.role = result.role
