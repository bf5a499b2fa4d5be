"""When to check a host because its kept connection broke. Pure: the time is an argument.

A broken connection is the first sign of a crash, so the host is checked at once. A pooler that
closes idle connections must not cause a login each time: the pause between two such checks of one
host doubles as long as they succeed, up to the normal pause between two rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class _Host:
    checks: int = 0
    """Successful checks in a row that a broken connection caused."""
    checked: float = -inf
    """When the last of them began."""
    due: float | None = None


class LostConnections:
    """``patience`` returns the pause after so many checks in vain; see `Schedule.patience`."""

    def __init__(self, patience: Callable[[int], float], forget_after: float) -> None:
        self._patience = patience
        self._forget_after = forget_after
        self._hosts: dict[int, _Host] = {}

    def lost(self, index: int, now: float) -> None:
        """The connection of a host broke between two checks."""
        host = self._hosts.setdefault(index, _Host())
        if host.due is not None:
            return  # a second break must not postpone the check
        if now - host.checked > self._forget_after:
            host.checks = 0
        host.due = max(now, host.checked + self._patience(host.checks))

    def begun(self, index: int, now: float) -> None:
        """A check of the host begins, whatever the occasion."""
        host = self._hosts.get(index)
        if host is not None and host.due is not None:
            host.due, host.checked, host.checks = None, now, host.checks + 1

    def failed(self, index: int) -> None:
        """The check failed: the broken connection was a sign of a failure."""
        self._hosts.pop(index, None)

    def due(self, now: float) -> list[int]:
        """The hosts to check now."""
        return [i for i, host in self._hosts.items() if host.due is not None and host.due <= now]

    def next(self, now: float) -> float:
        """When a check becomes due after now; infinite: none does."""
        times = (host.due for host in self._hosts.values() if host.due is not None)
        return min((due for due in times if due > now), default=inf)
