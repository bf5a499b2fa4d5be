"""What all threads of this process know about a cluster: the client, and which hosts were lost.

Created by the first connection of a process, so that a server that forks its workers shares
nothing between them.
"""

import os
import threading
import time
from contextlib import suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from pgstatus.client import ChosenHost, ClientError, PgStatusClient
from pgstatus.django.host import Host
from pgstatus.django.interruption import OpenConnections
from pgstatus.django.options import NAME, Options
from pgstatus.routing.following import Address, Following, Question

# How long another host is preferred to one that could not be used, in seconds.
AVOID_SECONDS = 1.0


class Cluster:
    """The databases that one pg-status monitors. All methods may be called by any thread."""

    def __init__(self, url: str, client: tuple[tuple[str, Any], ...]) -> None:
        self.client = PgStatusClient(url, **dict(client))
        self._lock = threading.Lock()
        self._losses: dict[Address, tuple[int, float]] = {}
        self.connections = OpenConnections()
        self._following = Following(self.client, self._leave)
        self._following.start()
        self.client.on_change(self.connections.leave_dead_replicas, "hosts")

    def follow(self, question: Question) -> None:
        """Lose the hosts that leave the answers to this question."""
        self._following.add(question)

    def host(self, chosen: ChosenHost) -> Host:
        """The host that pg-status has named."""
        address = chosen.host, chosen.port
        generation, _ = self._losses.get(address, (0, 0.0))
        return Host(address, chosen.role == "master", generation)

    def lose(self, host: Host) -> None:
        """A connection to ``host`` has failed: none that was opened before is used any more."""
        self._lose(host.address, host.generation)

    def is_lost(self, host: Host) -> bool:
        """Whether the connections of this generation must not be used any more."""
        generation, _ = self._losses.get(host.address, (0, 0.0))
        return generation != host.generation

    def is_avoided(self, chosen: ChosenHost) -> bool:
        """Whether another replica is preferred, because this host has just failed."""
        losses, at = self._losses.get((chosen.host, chosen.port), (0, 0.0))
        return losses > 0 and time.monotonic() - at < AVOID_SECONDS

    def _leave(self, address: Address) -> None:
        """pg-status does not name this host any more, or not as the master."""
        generation = self._losses.get(address, (0, 0.0))[0]
        self._lose(address, generation)
        with suppress(ClientError):
            master = self.client.master()
            if (master.host, master.port) != address:
                self.connections.leave_master(Host(address, True, generation))

    def _lose(self, address: Address, known: int) -> None:
        """Nothing happens if the address was lost again since the generation ``known``."""
        with self._lock:
            generation, _ = self._losses.get(address, (0, 0.0))
            if generation == known:
                self._losses[address] = generation + 1, time.monotonic()


_clusters: dict[tuple[object, ...], Cluster] = {}
_creating = threading.Lock()


def cluster_of(options: Options) -> Cluster:
    """The cluster of an entry of ``DATABASES``, shared by the entries with the same client.

    ImproperlyConfigured: an option of the client is not valid.
    """
    key = options.url, options.client
    cluster = _clusters.get(key)
    if cluster is None:
        with _creating:
            cluster = _clusters.get(key)
            if cluster is None:
                cluster = _clusters[key] = _new_cluster(*key)
    return cluster


def _new_cluster(url: str, client: tuple[tuple[str, Any], ...]) -> Cluster:
    try:
        return Cluster(url, client)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ImproperlyConfigured(f"OPTIONS[{NAME!r}]: {error}") from error


def _after_fork() -> None:
    global _creating  # noqa: PLW0603  # a thread of the parent may have held it
    _creating = threading.Lock()
    _clusters.clear()


os.register_at_fork(after_in_child=_after_fork)
