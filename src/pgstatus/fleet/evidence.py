"""The evidence of this instance, as documents: what ``/evidence`` and the NATS bucket contain."""

import secrets
import socket
from collections.abc import Callable
from typing import NamedTuple

from pgstatus import __version__, clock
from pgstatus.core.snapshot import Host
from pgstatus.core.state import Look, Memory
from pgstatus.errors import in_a_line
from pgstatus.fleet.document import Document, Result
from pgstatus.monitor.results import LatestResults

SILENCE = 3.0
"""Seconds without a document after which a watcher counts as lost."""
INTERVAL = 1.0
"""Seconds between two documents at most."""
BATCH = 0.25
"""Seconds for which results that change nothing are collected."""

WATCHER = secrets.token_hex(8)
"""The epoch of this process."""


class Condition(NamedTuple):
    """What a watcher knows besides the results of its checks."""

    memory: Memory | None
    ready: bool


class Evidence:
    """Of one monitor. Safe in any thread."""

    def __init__(
        self,
        results: LatestResults,
        condition: Callable[[], Condition],
        interval: float,
        name: str = "",
    ) -> None:
        """``interval``: seconds between two rounds of checks; ``name``: instead of the host's."""
        self._results = results
        self._condition = condition
        self._interval = interval
        self._name = name or in_a_line(socket.gethostname()) or "unnamed"

    @property
    def version(self) -> int:
        """Increased with each result."""
        return self._results.version

    @property
    def urgent(self) -> int:
        """The version of the last result that should be sent at once."""
        return self._results.urgent

    def document(self, since: int | None = None) -> tuple[int, Document]:
        """The present version, and the results since another one; None: the complete document."""
        condition = self._condition()
        version, recorded = self._results.since(since or 0)
        hosts = self._results.hosts
        results = [Result(hosts[of], look, value) for of, look, value in recorded]
        if since is None:
            # Every host is in it, in the order of the configuration.
            found: dict[Host, list[Result]] = {host: [] for host in hosts}
            for result in results:
                found[result.host].append(result)
            results = [
                result
                for host in hosts
                for result in found[host] or (Result(host, Look.ROUND, None),)
            ]
        document = Document(
            watcher=WATCHER,
            name=self._name,
            version=__version__,
            sent=clock.now(),
            complete=since is None,
            results=tuple(results),
            memory=condition.memory,
            ready=condition.ready,
            interval=self._interval,
        )
        return version, document
