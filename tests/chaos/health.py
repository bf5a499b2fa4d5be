"""When each host could serve, measured by queries of the campaign itself."""

import threading
import time
from dataclasses import dataclass

import psycopg

from pgstatus.demo.cluster import Server
from tests.chaos.truth import Truth

_SAMPLE_EVERY = 0.05
# A longer gap between two samples ends an interval: the host may have been frozen meanwhile.
_LONGEST_GAP = 0.5
# A replica that lacks nothing older than this serves current data.
_MAX_LAG = 0.3


@dataclass
class Interval:
    """The host was in this state at each sample from ``began`` to ``ended`` (Unix seconds)."""

    began: float
    ended: float


class Health:
    """Samples all hosts in threads; the intervals are evaluated after the campaign."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._stopping = threading.Event()
        addresses = [server.address for server in truth.cluster.servers]
        self.primary: dict[str, list[Interval]] = {address: [] for address in addresses}
        """The host was the primary and responded."""
        self.replica: dict[str, list[Interval]] = {address: [] for address in addresses}
        """The host was a replica with current data."""
        self.down: dict[str, list[Interval]] = {address: [] for address in addresses}
        """The host refused connections."""

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=self._sample, args=(server,), daemon=True)
            for server in self._truth.cluster.servers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)

    def could_serve(self, began: float, ended: float) -> bool:
        """One host could serve reads during all of this time."""
        return any(
            covers(intervals, began, ended)
            for intervals in (*self.primary.values(), *self.replica.values())
        )

    def had_replica(self, began: float, ended: float) -> bool:
        """One replica had current data during all of this time."""
        return any(covers(intervals, began, ended) for intervals in self.replica.values())

    def was_down(self, address: str, began: float, ended: float) -> bool:
        """The host refused connections during all of this time."""
        return covers(self.down.get(address, []), began, ended)

    def _sample(self, server: Server) -> None:
        while not self._stopping.wait(_SAMPLE_EVERY):
            began = time.time()
            try:
                self._sample_session(server)
            except psycopg.OperationalError as error:
                if "Connection refused" in str(error):
                    _extend(self.down[server.address], began)
            except psycopg.Error:
                continue

    def _sample_session(self, server: Server) -> None:
        with self._truth.session(server) as connection:
            while not self._truth.is_paused and not self._stopping.wait(_SAMPLE_EVERY):
                began = time.time()
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
                missing = self._truth.missing_on(connection)
                if row is not None and row[0]:
                    if missing is None or began - missing < _MAX_LAG:
                        _extend(self.replica[server.address], began)
                elif server is self._truth.cluster.primary:
                    _extend(self.primary[server.address], began)


def covers(intervals: list[Interval], began: float, ended: float) -> bool:
    """One interval contains this time."""
    return any(interval.began <= began and ended <= interval.ended for interval in intervals)


def _extend(intervals: list[Interval], at: float) -> None:
    now = time.time()
    if now - at > _LONGEST_GAP:  # the sample itself took too long
        return
    if intervals and at - intervals[-1].ended <= _LONGEST_GAP:
        intervals[-1].ended = at
    else:
        intervals.append(Interval(at, at))
