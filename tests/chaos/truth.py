"""What is true of the cluster, known because we make it so: who is master since when, which
heartbeats were committed and survived.
"""

import contextlib
import threading
import time
from dataclasses import dataclass, field

import psycopg

from pgstatus.demo.cluster import Cluster, Server

_BEAT_EVERY = 0.05


@dataclass
class Reign:
    """``address`` has been the master since ``began`` (Unix seconds), ``timeline`` its number."""

    address: str
    timeline: int
    began: float
    event: str
    lost_at: float
    """When its predecessor was lost."""
    promoting: float
    """When its promotion was asked for: from here on it may be named rightly."""


@dataclass
class Truth:
    """Safe to use from any thread. ``reigns`` is the history of masters, the current one last."""

    cluster: Cluster
    reigns: list[Reign] = field(default_factory=list)
    _beats: dict[float, float] = field(default_factory=dict)
    """Heartbeats that survived: the moment each was made → the moment its commit had returned."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.cluster.primary.sql("CREATE TABLE beats (at float8 PRIMARY KEY)")
        self.cluster.primary.sql(
            "CREATE TABLE written (at float8, url text, timeline int, answered float8)"
        )
        self.reigns.append(Reign(self.cluster.primary.address, 1, time.time(), "start", 0.0, 0.0))
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @property
    def master(self) -> Reign:
        return self.reigns[-1]

    def crowned(self, server: Server, event: str, lost_at: float, promoting: float) -> None:
        """``server`` was promoted just now; what it has of the heartbeats is what survived."""
        now = time.time()
        ((last,),) = server.sql("SELECT coalesce(max(at), 0) FROM beats")
        with self._lock:
            self._beats = {at: done for at, done in self._beats.items() if at <= last}
            timeline = self.master.timeline + 1
            self.reigns.append(Reign(server.address, timeline, now, event, lost_at, promoting))

    def missing_on(self, server: Server) -> float | None:
        """When the first surviving heartbeat that it has not replayed was committed; None: has all.

        psycopg.Error where it cannot be asked.
        """
        with self._lock:
            beats = dict(self._beats)
        with psycopg.connect(server.conninfo, options="-c statement_timeout=1000") as connection:
            row = connection.execute("SELECT coalesce(max(at), 0) FROM beats").fetchone()
        assert row is not None
        return min((done for at, done in beats.items() if at > row[0]), default=None)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(_BEAT_EVERY):
            reign, server = self.master, self.cluster.primary
            with contextlib.suppress(psycopg.Error):
                self._beat_on(server, reign)

    def _beat_on(self, server: Server, reign: Reign) -> None:
        options = "-c statement_timeout=1000"
        with psycopg.connect(server.conninfo, autocommit=True, options=options) as connection:
            while not self._stopping.wait(_BEAT_EVERY) and self.master is reign:
                at = time.time()
                connection.execute("INSERT INTO beats VALUES (%s)", [at])
                with self._lock:
                    if self.master is reign:
                        self._beats[at] = time.time()
