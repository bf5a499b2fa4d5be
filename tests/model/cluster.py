"""A simulated cluster. Each server has a log of writes; everything else follows from it.

The simulation is as small as the rules allow: an LSN is a number, a write is one record, and a
standby receives all that its upstream has in one step. What is exact is the relation of the
histories: a standby streams only from a server that has its own log as a prefix.
"""

from dataclasses import dataclass
from math import inf

from pgstatus.core.snapshot import Failure, Observation, Standby
from pgstatus.errors import Cause

CLOCK = 1_700_000_000.0
_RECORD = 100
_BEGIN = 1000


@dataclass(frozen=True, slots=True)
class Write:
    """A committed write; it ends at ``lsn``."""

    number: int
    lsn: int
    at: float


Log = tuple[Write, ...]


@dataclass
class Server:
    """A PostgreSQL server: its data directory, its process, and what of it is visible."""

    name: str
    identifier: int = 1
    timeline: int = 1
    control_timeline: int = 1
    log: Log = ()
    """Replayed, or written."""
    received: Log = ()
    begin: int = _BEGIN
    forked_at: int = 0
    """The number of writes before its timeline."""
    primary: bool = False
    upstream: str | None = None
    """``primary_conninfo``."""
    running: bool = True
    ended_at: float = inf
    """When it stopped running."""
    shutting_down: bool = False
    """A smart shutdown: it refuses new sessions and serves the existing ones."""
    hidden: bool = False
    """No packet passes between it and the monitor."""
    stalled: bool = False
    """No packet passes between it and its upstream; the connection still exists."""
    paused: bool = False
    """Replay is paused."""
    connected: bool = False
    login_only: bool = False
    no_control_functions: bool = False

    @property
    def address(self) -> str:
        return f"10.0.0.{ord(self.name)}"

    @property
    def lsn(self) -> int:
        return self.log[-1].lsn if self.log else self.begin

    @property
    def is_writable(self) -> bool:
        return self.primary and self.running


@dataclass
class Cluster:
    """The servers, by name, and the time."""

    servers: dict[str, Server]
    now: float = 1000.0
    writes: int = 0

    @classmethod
    def of(cls, names: str) -> "Cluster":
        """The first server is the primary of the others."""
        first = names[0]
        servers = {first: Server(first, primary=True)}
        servers |= {name: Server(name, upstream=first) for name in names[1:]}
        cluster = cls(servers)
        cluster.pass_time(0)
        return cluster

    def pass_time(self, seconds: float) -> None:
        """Time passes, and standbys receive and replay."""
        self.now += seconds
        for _ in range(2):  # a cascading standby comes after its upstream
            for server in self.servers.values():
                self._stream(server)

    def _stream(self, server: Server) -> None:
        if server.primary or not server.running:
            server.connected = False
            return
        upstream = self.servers.get(server.upstream or "")
        if server.connected and server.stalled and upstream is not None and upstream.running:
            return
        source = self._source(server, upstream)
        server.connected = source is not None and not server.stalled
        if source is not None and upstream is not None and server.connected:
            server.received = source
            server.timeline = upstream.timeline
        if not server.paused:
            server.log = server.received

    def _source(self, server: Server, upstream: Server | None) -> Log | None:
        """The log that the server receives; None: it cannot stream from there."""
        if upstream is None or upstream is server or not upstream.running:
            return None
        log = upstream.log if upstream.primary else upstream.received
        compatible = (
            upstream.identifier == server.identifier
            and upstream.timeline >= server.timeline
            and log[: len(server.received)] == server.received
            and upstream.begin == server.begin
        )
        return log if compatible else None

    def stop(self, server: Server) -> None:
        ended_at = self.now if server.running else server.ended_at
        server.running, server.shutting_down, server.ended_at = False, False, ended_at
        self.pass_time(0)

    def start(self, server: Server) -> None:
        server.running, server.shutting_down, server.ended_at = True, False, inf
        self.pass_time(0)

    def write(self, server: Server) -> Write:
        self.writes += 1
        write = Write(self.writes, server.lsn + _RECORD, self.now)
        server.log = server.received = (*server.log, write)
        return write

    def promote(self, server: Server, *, new_timeline: bool = True) -> None:
        server.log = server.received
        server.primary, server.upstream, server.paused = True, None, False
        server.timeline += new_timeline
        server.forked_at = len(server.log)

    def demote(self, server: Server, upstream: str) -> None:
        """Restarted as a standby; the shutdown was clean."""
        server.primary, server.upstream = False, upstream
        server.control_timeline = server.timeline

    def restore(self, server: Server, writes: int) -> None:
        """Return to an older copy of the disk, which lacks the last writes of this timeline."""
        kept = max(server.forked_at, len(server.log) - writes)
        server.log = server.received = server.log[:kept]

    def rebuild(self, server: Server, source: Server) -> None:
        """pg_basebackup."""
        server.primary, server.upstream, server.paused = False, source.name, False
        server.identifier, server.timeline = source.identifier, source.timeline
        server.control_timeline, server.begin = source.timeline, source.begin
        server.log = server.received = source.log
        server.forked_at, server.connected = len(source.log), False
        self.start(server)

    def upgrade(self, server: Server, identifier: int) -> None:
        """pg_upgrade, or a new initdb in its place: positions and timelines begin anew."""
        server.identifier, server.timeline, server.control_timeline = identifier, 1, 1
        server.log = server.received = ()
        server.begin = _BEGIN + identifier
        server.primary, server.upstream, server.forked_at = True, None, 0
        self.start(server)

    def observe(self, server: Server, started: float) -> Observation | Failure:
        """The result of a check that ends now."""
        if server.hidden:
            return Failure(Cause.TIMEOUT, "no response", started, self.now)
        if not server.running or server.shutting_down:
            return Failure(Cause.CONNECT, "Connection refused", started, self.now, down=True)
        readable = not server.login_only
        control = None if server.no_control_functions else server.control_timeline
        timeline: int | None = server.timeline
        if not server.primary and not (server.connected and readable):
            timeline = None if server.connected else control
        upstream = self.servers.get(server.upstream or "")
        streams = server.connected and readable and upstream is not None
        return Observation(
            in_recovery=not server.primary,
            lsn=server.lsn,
            timeline=timeline,
            receiving=server.connected,
            system_identifier=None if server.no_control_functions else server.identifier,
            host_time=CLOCK + self.now,
            replayed_at=None if server.primary or not server.log else CLOCK + server.log[-1].at,
            started=started,
            finished=self.now,
            addresses=frozenset({server.address}),
            upstream=(upstream.address, 5432) if streams and upstream is not None else None,
            received_lsn=None if server.primary or not server.received else server.received[-1].lsn,
            standbys=self._standbys(server) if readable else (),
            control_timeline=control,
        )

    def _standbys(self, server: Server) -> tuple[Standby, ...]:
        return tuple(
            Standby(other.address, other.name, "streaming", "async")
            for other in self.servers.values()
            if other.connected and other.upstream == server.name
        )
