"""The actual state of the cluster, as the campaign causes it: the master of each period, and the
heartbeats that were committed and not lost.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

from pgstatus.demo.cluster import Cluster, Server

_BEAT_EVERY = 0.05
# Seconds of heartbeats that a replica is compared with.
_WINDOW = 20.0

DIVERGED = 0.0
"""As a result of `Truth.missing_on`: the host has heartbeats that were lost."""


@dataclass
class Period:
    """``address`` has been the master since ``began`` (Unix seconds)."""

    address: str
    began: float
    event: str
    promoting: float
    """Start of its promotion: from here on it may be reported."""
    patience: float = 0.5
    """Seconds in addition to the pause between two checks until it must be reported."""


@dataclass
class Truth:
    """Safe to use from any thread. ``periods`` is the history of masters, the current one last."""

    cluster: Cluster
    periods: list[Period] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """What an event itself has noticed, such as a delayed shutdown."""
    login_iterations: int = 10_000_000
    """What an expensive login demands of each pg-status that checks the hosts."""
    created: float = 0.0
    """Creation of the present cluster; earlier writes were removed with its predecessor."""
    _beats: dict[float, float] = field(default_factory=dict)
    """Heartbeats that were not lost: the time of each, and the time of its commit."""
    _attempted: set[float] = field(default_factory=set)
    """Heartbeats that were not lost, with those whose commit was not confirmed."""
    _idle: int = 0
    """Number of reasons for which nothing is written."""
    _inserting: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _sessions: int = 0
    _paused: bool = False

    def __post_init__(self) -> None:
        self._create()
        self.periods.append(Period(self.cluster.primary.address, time.time(), "start", 0.0))
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _create(self) -> None:
        primary = self.cluster.primary
        primary.sql("CREATE TABLE beats (at float8 PRIMARY KEY)")
        primary.sql("CREATE TABLE written (at float8, url text, timeline int, answered float8)")

    @property
    def master(self) -> Period:
        return self.periods[-1]

    @property
    def last_commit(self) -> float:
        """Time of the last commit that was not lost."""
        with self._lock:
            return max(self._beats.values(), default=0.0)

    @property
    def is_paused(self) -> bool:
        return self._paused

    def promoted(self, server: Server, event: str, promoting: float, patience: float = 0.5) -> None:
        """``server`` is the master now; the heartbeats that it does not have were lost."""
        now = time.time()
        with self.idle():
            ((last,),) = server.sql("SELECT coalesce(max(at), 0) FROM beats")
            with self._lock:
                self._beats = {at: done for at, done in self._beats.items() if at <= last}
                self._attempted = {at for at in self._attempted if at <= last}
                self.periods.append(Period(server.address, now, event, promoting, patience))

    def recreated(self, server: Server, event: str, promoting: float, patience: float) -> None:
        """``server`` is the master of a new cluster; everything of the old one is gone."""
        with self.idle():
            self._create()
            with self._lock:
                self._beats, self._attempted = {}, set()
                self.created = time.time()
                self.periods.append(
                    Period(server.address, self.created, event, promoting, patience)
                )

    def missing_on(self, connection: "psycopg.Connection") -> float | None:
        """Commit time of the first heartbeat that the host has not replayed; None: it has all.

        DIVERGED: it has others. psycopg.Error: the host does not respond.
        """
        since = time.time() - _WINDOW
        with self._lock:
            beats = {at: done for at, done in self._beats.items() if at > since}
        rows = connection.execute("SELECT at FROM beats WHERE at > %s", [since]).fetchall()
        found = {at for (at,) in rows}
        with self._lock:
            if not found <= self._attempted:
                return DIVERGED
        return min((done for at, done in beats.items() if at not in found), default=None)

    @contextlib.contextmanager
    def session(self, server: Server) -> Iterator["psycopg.Connection"]:
        """A connection to a host. It must be closed soon after `is_paused` has become true."""
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            self._sessions += 1
        try:
            with psycopg.connect(
                server.conninfo, autocommit=True, options="-c statement_timeout=1000"
            ) as connection:
                yield connection
        finally:
            with self._changed:
                self._sessions -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No session of the campaign is open within this block."""
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: self._sessions == 0, timeout=20)
        try:
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """Nothing is written within this block."""
        with self._lock:
            self._idle += 1
        # An insertion that does not end within this time is on a frozen server.
        if self._inserting.acquire(timeout=1):
            self._inserting.release()
        try:
            yield
        finally:
            with self._lock:
                self._idle -= 1

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _beat(self) -> None:
        while not self._stopping.wait(_BEAT_EVERY):
            period, server = self.master, self.cluster.primary
            with contextlib.suppress(psycopg.Error):
                self._beat_on(server, period)

    def _beat_on(self, server: Server, period: Period) -> None:
        with self.session(server) as connection:
            while self.master is period and not self._paused:
                if self._stopping.wait(_BEAT_EVERY):
                    return
                with self._inserting:
                    at = time.time()
                    with self._lock:
                        if self._idle or self.master is not period:
                            continue
                        self._attempted.add(at)
                    connection.execute("INSERT INTO beats VALUES (%s)", [at])
                with self._lock:
                    if self.master is period:
                        self._beats[at] = time.time()
