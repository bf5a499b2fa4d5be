"""The latest results of the checks, as the hosts returned them: written by the monitoring thread,
read by any thread.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pgstatus.core.snapshot import Failure, Host, Observation, Position
from pgstatus.core.state import Look


class Recorded(NamedTuple):
    """The result of one check."""

    host: int
    """Its index."""
    look: Look
    value: Observation | Failure | Position


class _Of(NamedTuple):
    """What is kept of one host, with the versions in which it was recorded."""

    seen: tuple[int, Recorded] | None = None
    """The last successful check, as long as it is in use."""
    position: tuple[int, Recorded] | None = None
    """The last position check, if it is newer."""
    failure: tuple[int, Recorded] | None = None
    """The last check, if it failed or is overdue."""


class LatestResults:
    """What is known of each host, and what is new since a version.

    ``notify`` is called in the monitoring thread after each result.
    """

    def __init__(self, hosts: Sequence[Host], notify: Callable[[], None] = lambda: None) -> None:
        self.hosts = tuple(hosts)
        self._notify = notify
        self._urgent = 0
        self._lock = threading.Lock()
        self._version = 0
        self._hosts = [_Of() for _ in hosts]

    @property
    def version(self) -> int:
        """Increased with each result."""
        return self._version

    @property
    def urgent(self) -> int:
        """The version of the last result that matters."""
        return self._urgent

    def record(
        self,
        index: int,
        look: Look,
        value: Observation | Failure | Position,
        *,
        dead: bool,
        matters: bool,
    ) -> None:
        """A result was folded.

        ``dead``: the last successful check is not in use any more; ``matters``: the result changes
        more than figures, or is awaited.
        """
        with self._lock:
            before, version = self._hosts[index], self._version + 1
            entry = version, Recorded(index, look, value)
            if isinstance(value, Observation):
                after = _Of(seen=entry)
            elif isinstance(value, Position):
                after = before._replace(position=entry)
            elif dead:
                after = _Of(failure=entry)
            else:
                after = before._replace(failure=entry)
            self._hosts[index], self._version = after, version
            if matters:
                self._urgent = version
        self._notify()

    def since(self, version: int) -> tuple[int, tuple[Recorded, ...]]:
        """The present version, and the results since ``version`` (0: all), in their order."""
        with self._lock:
            found = [
                entry
                for host in self._hosts
                for entry in host
                if entry is not None and entry[0] > version
            ]
            return self._version, tuple(recorded for _, recorded in sorted(found, key=_version))


def _version(entry: tuple[int, Recorded]) -> int:
    return entry[0]
