"""The settings of one cluster."""

from dataclasses import dataclass, field
from pathlib import Path

from pgstatus.core.election import SplitBrain
from pgstatus.core.selection import Fallback, Place, Thresholds
from pgstatus.core.snapshot import Host
from pgstatus.core.state import Rules
from pgstatus.settings import variables as v
from pgstatus.settings.command import Command, parse_command
from pgstatus.settings.dimensions import read_dimension
from pgstatus.settings.files import writable_file_problem
from pgstatus.settings.fleet import Fleet, read_fleet
from pgstatus.settings.nats import Nats, read_nats
from pgstatus.settings.reader import Reader
from pgstatus.settings.target import Target
from pgstatus.settings.targets import NO_LIBPQ, Libpq, read_hosts, read_targets


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one cluster, validated. Times are in seconds."""

    name: str
    """Empty: the only cluster, without a name."""
    hosts: tuple[Host, ...]
    targets: tuple[Target, ...] = field(repr=False)
    """How to connect to each of ``hosts``, in the same order."""
    rules: Rules
    thresholds: Thresholds
    """The default limits and fallback of questions about replicas."""
    fallback_per_s: int | None
    """Maximum number of questions per second that fall back to the master; None: no limit."""
    place: Place
    failover_sleep: float
    min_lsn_wait: float
    on_change: Command | None
    cluster_name: str | None
    """To be shown."""
    state_file: Path | None
    fleet: Fleet | None = None
    """None: this instance checks the hosts itself."""
    nats: Nats | None = None
    """Where it publishes its evidence."""

    @property
    def subject(self) -> str:
        """What is monitored, for the log."""
        if self.fleet is None:
            return f"hosts {', '.join(map(str, self.hosts))}"
        return f"relay of {', '.join(self.fleet.sources)}"


def read_cluster(reader: Reader, libpq: Libpq, name: str = "") -> Settings:
    """The settings; invalid if the reader has found problems."""
    shown_name = name or reader.read(v.CLUSTER_NAME)
    nats = read_nats(reader, shown_name)
    fleet = read_fleet(reader, nats)
    # The watchers of a relay know the hosts.
    hosts = [] if libpq is NO_LIBPQ else read_hosts(reader, libpq)
    number = None if libpq is NO_LIBPQ else len(hosts)
    query_timeout_ms, sleep_ms = _query_timeout_ms(reader), reader.read_sleep_ms()
    dc = read_dimension(reader, number, v.HOSTS_DC, v.CURRENT_DC, v.CURRENT_DC_ENV)
    geo = read_dimension(reader, number, v.HOSTS_GEO, v.CURRENT_GEO, v.CURRENT_GEO_ENV)
    thresholds = Thresholds(
        reader.read(v.SYNC_MAX_LAG_MS),
        reader.read(v.SYNC_MAX_LAG_BYTES),
        Fallback(reader.read(v.FALLBACK)),
    )
    max_fails = max(1, reader.read(v.MAX_FAILS))
    return Settings(
        name=name,
        hosts=tuple(
            Host(params["host"], int(params["port"]), dc.hosts[i], geo.hosts[i])
            for i, params in enumerate(hosts)
        ),
        targets=read_targets(reader, hosts, libpq, query_timeout_ms / 1000, shown_name),
        rules=Rules(
            sleep=sleep_ms / 1000,
            max_fails=max_fails,
            sync_max_lag_ms=thresholds.lag_ms,
            sync_max_lag_bytes=thresholds.lag_bytes,
            split_brain=SplitBrain(reader.read(v.SPLIT_BRAIN)),
            max_staleness=_staleness_ms(reader, sleep_ms + query_timeout_ms, max_fails) / 1000,
        ),
        thresholds=thresholds,
        fallback_per_s=reader.read(v.FALLBACK_PER_S),
        place=Place(dc.current, geo.current),
        failover_sleep=min(reader.read(v.FAILOVER_SLEEP_MS), sleep_ms) / 1000,
        min_lsn_wait=reader.read(v.MIN_LSN_WAIT_MS) / 1000,
        on_change=_command(reader),
        cluster_name=shown_name,
        state_file=_state_file(reader),
        fleet=fleet,
        nats=nats if fleet is None else None,
    )


def _query_timeout_ms(reader: Reader) -> int:
    timeout = reader.read(v.QUERY_TIMEOUT_MS)
    if reader.is_set(v.QUERY_TIMEOUT_MS):
        return timeout
    # A time that is configured for logins must not be cut off by a default.
    connect = reader.read(v.CONNECT_TIMEOUT) if reader.is_set(v.CONNECT_TIMEOUT) else 0
    return max(timeout, round(connect * 1000))


def _staleness_ms(reader: Reader, round_ms: int, max_fails: int) -> int:
    staleness = reader.read(v.MAX_STALENESS_MS)
    if staleness is None:
        return max(3, max_fails) * round_ms
    if 0 < staleness < round_ms:
        reader.refuse(
            v.MAX_STALENESS_MS,
            f"expected 0, or at least one interval and one check: "
            f"sleep_ms + query_timeout_ms = {round_ms}",
        )
    return staleness


def _command(reader: Reader) -> Command | None:
    text, limit_ms = reader.read(v.ON_CHANGE), reader.read(v.ON_CHANGE_TIMEOUT_MS)
    if text is None:
        return None
    try:
        return parse_command(text, limit_ms / 1000, reader.environ)
    except ValueError as error:
        reader.refuse_file(v.ON_CHANGE, error)
        return None


def _state_file(reader: Reader) -> Path | None:
    path = reader.read(v.STATE_FILE)
    if path is not None and (problem := writable_file_problem(path)):
        reader.refuse_file(v.STATE_FILE, ValueError(problem))
    return path
