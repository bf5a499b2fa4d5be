"""What all threads of this process know about a cluster: the client, and which hosts were lost.

Created by the first connection of a process, so that a server that forks its workers shares
nothing between them.
"""

import os
import threading
import time
from typing import Any, NamedTuple

from pgstatus.client import Answer, ChosenHost, PgStatusClient
from pgstatus.client.errors import NO_ANSWER
from pgstatus.django.options import Options

Address = tuple[str, int]
Limits = tuple[int | None, int | None]
"""``lag_ms`` and ``lag_bytes``."""
# How long another host is preferred to one that could not be used, in seconds.
AVOID_SECONDS = 1.0
# While pg-status does not respond, one thread at a time asks it for a position, at this interval.
RETRY_SECONDS = 2.0


class Host(NamedTuple):
    """A host as it was chosen. It differs from a later choice if its connections must be closed.

    generation: how many times the connections to this address had been lost.
    """

    address: Address
    is_master: bool
    generation: int


class Cluster:
    """The databases that one pg-status monitors. All methods may be called by any thread."""

    def __init__(self, url: str, client: tuple[tuple[str, Any], ...]) -> None:
        self.client = PgStatusClient(url, **dict(client))
        self._lock = threading.Lock()
        self._losses: dict[Address, tuple[int, float]] = {}
        self._responds = True
        self._retry_at = 0.0
        self._followed: set[Limits] = set()
        self._named: dict[Limits, frozenset[Address]] = {}

    def host(self, chosen: ChosenHost) -> Host:
        """The host that pg-status has named."""
        address = chosen.host, chosen.port
        generation, _ = self._losses.get(address, (0, 0.0))
        return Host(address, chosen.role == "master", generation)

    def lose(self, host: Host) -> None:
        """A connection to ``host`` has failed: none that was opened before is used any more."""
        with self._lock:
            generation, _ = self._losses.get(host.address, (0, 0.0))
            if generation == host.generation:  # this failure is not known yet
                self._losses[host.address] = generation + 1, time.monotonic()

    def is_lost(self, host: Host) -> bool:
        """Whether the connections of this generation must not be used any more."""
        generation, _ = self._losses.get(host.address, (0, 0.0))
        return generation != host.generation

    def replica_past(self, position: str, limits: Limits, wait_ms: int | None) -> ChosenHost | None:
        """The answer for a position, which only pg-status knows. None: it does not respond.

        The requests of an application must not wait for that one after another.
        """
        now = time.monotonic()
        with self._lock:
            if not self._responds and now < self._retry_at:
                return None
            self._retry_at = now + RETRY_SECONDS
        lag_ms, lag_bytes = limits
        try:
            chosen = self.client.replica(
                lag_ms=lag_ms, lag_bytes=lag_bytes, min_lsn=position, wait_ms=wait_ms
            )
        except NO_ANSWER:
            self._responds = False
            return None
        self._responds = True
        return chosen

    def is_named(self, replica: Host, limits: Limits) -> bool:
        """Whether pg-status still reports this replica within the limits."""
        named = self._named.get(limits)
        if named is None:
            self._follow(limits)
            return True
        return replica.address in named

    def _follow(self, limits: Limits) -> None:
        def change(answer: Answer) -> None:
            self._named[limits] = frozenset((host.host, host.port) for host in answer.hosts)

        with self._lock:
            if limits not in self._followed:
                self._followed.add(limits)
                lag_ms, lag_bytes = limits
                self.client.on_change(change, "replica", lag_ms=lag_ms, lag_bytes=lag_bytes)

    def is_avoided(self, chosen: ChosenHost) -> bool:
        """Whether another replica is preferred, because this host has just failed."""
        losses, at = self._losses.get((chosen.host, chosen.port), (0, 0.0))
        return losses > 0 and time.monotonic() - at < AVOID_SECONDS


_clusters: dict[tuple[object, ...], Cluster] = {}
_creating = threading.Lock()


def cluster_of(options: Options) -> Cluster:
    """The cluster of an entry of ``DATABASES``, shared by the entries with the same client."""
    key = options.url, options.client
    cluster = _clusters.get(key)
    if cluster is None:
        with _creating:
            cluster = _clusters.get(key)
            if cluster is None:
                cluster = _clusters[key] = Cluster(*key)
    return cluster


def _after_fork() -> None:
    global _creating  # noqa: PLW0603  # a thread of the parent may have held it
    _creating = threading.Lock()
    _clusters.clear()


os.register_at_fork(after_in_child=_after_fork)
