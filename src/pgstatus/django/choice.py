"""The host that a connection has to use at this moment.

`host()` is called before each transaction, and before each statement outside of one: its answer
comes from the memory of the client.
"""

from typing import Protocol

from pgstatus.bookmarks.bookmark import Bookmark, Notes, current_notes
from pgstatus.client import ChosenHost
from pgstatus.django.cluster import Cluster
from pgstatus.django.host import Host
from pgstatus.django.options import Options
from pgstatus.routing.following import MASTER, Question
from pgstatus.routing.reads import choose

# How many answers are requested in search of a replica that has not just failed.
ATTEMPTS = 3


def requires_master(notes: Notes, name: str) -> bool:
    """Whether the remaining reads of this request use the master of the cluster ``name``."""
    return notes.master_only or notes.is_behind(name)


class Choice(Protocol):
    """How the connections of one thread and one alias find their host."""

    cluster: Cluster

    def host(self) -> Host:
        """The host to use. ClientError: it is not known."""

    def forget(self) -> None:
        """A request has begun, or ended."""


class MasterChoice:
    """The current master."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.follow(MASTER)

    def host(self) -> Host:
        return self.cluster.host(self.cluster.client.master())

    def forget(self) -> None:
        """Nothing is kept."""


class ReplicaChoice:
    """One replica for the whole request, so that its reads do not go back in time.

    Another one is chosen if the replica is lost, and the master if the request has written.
    """

    def __init__(self, cluster: Cluster, name: str, options: Options) -> None:
        """``name`` distinguishes clusters in a client's bookmark."""
        self.cluster = cluster
        self._name = name
        self._question = Question("replica", options.lag_ms, options.lag_bytes)
        cluster.follow(self._question)
        self._wait_ms = options.wait_ms
        self._host: Host | None = None
        self._reason: tuple[Notes | None, Bookmark | None, bool] | None = None

    def host(self) -> Host:
        notes = current_notes.get()
        mark = None if notes is None else notes.mark(self._name)
        on_master = notes is not None and requires_master(notes, self._name)
        reason = notes, mark, on_master
        host = self._host
        if host is None or reason != self._reason or self.cluster.is_lost(host):
            host = self._host = self.cluster.host(self._choose(mark, on_master=on_master))
            self._reason = reason
        return host

    def forget(self) -> None:
        self._host = self._reason = None

    def _choose(self, mark: Bookmark | None, *, on_master: bool) -> ChosenHost:
        question = MASTER if on_master else self._question
        for _ in range(ATTEMPTS):
            chosen = choose(self.cluster.client, question, mark, self._wait_ms)
            if not self.cluster.is_avoided(chosen):
                break
        return chosen
