"""``/metrics``: the snapshot and the counters in the formats of Prometheus.

Every scrape creates all series from the snapshot and the counters, so no series outlives its host.
prometheus_client renders them; the daemon imports it, through this module, at the first scrape.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pgstatus import __version__
from pgstatus.core.selection import Kind
from pgstatus.core.snapshot import Role, Snapshot
from pgstatus.telemetry.counters import (
    DURATION_LIMITS,
    Checks,
    RequestKind,
    Requests,
    Watchers,
)

Labels = Sequence[str]
"""The labels that all series of clusters have."""

# One for all scrapes: it stores the boot time of the machine, which the kernel computes with an
# error of a second at each request. A changed start time would be taken for a restart.
_PROCESS = ProcessCollector(registry=None)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is exposed of one cluster."""

    name: str
    """Empty: the series have no label ``cluster``."""
    snapshot: Snapshot
    checks: Checks
    hook_runs: Mapping[str, int]
    hook_pending: bool
    delivering: Mapping[str, bool] = field(default_factory=dict)
    """Of a relay: whether each of them delivers evidence."""

    @property
    def values(self) -> list[str]:
        """The values of the labels that all its series have."""
        return [_label(self.name)] if self.name else []


def expose(
    accept: str,
    *,
    clusters: Sequence[Figures],
    rejected: Collection[str] = (),
    now: float,
    requests: Requests,
    watchers: Watchers,
    dropped_log_lines: int,
) -> tuple[str, bytes]:
    """The media type and the text for a request with this ``Accept`` header.

    ``rejected``: the names of clusters whose newest configuration cannot be used.
    """
    registry = CollectorRegistry()
    labels = ["cluster"] if rejected or any(figures.name for figures in clusters) else []
    families = [
        InfoMetricFamily("pg_status_build", "Version of pg-status.", {"version": __version__}),
        *_snapshots(labels, clusters, now),
        _rejected(labels, clusters, rejected),
        *_hosts(labels, clusters, now),
        *_checks(labels, clusters),
        _upstreams(labels, clusters),
        *_requests(labels, [figures.name for figures in clusters], requests.read()),
        GaugeMetricFamily(
            "pg_status_watchers", "Subscribers of /watch, including long polls.", watchers.count
        ),
        CounterMetricFamily(
            "pg_status_watch_events", "Events sent to subscribers of /watch.", watchers.events
        ),
        *_hooks(labels, clusters),
        CounterMetricFamily(
            "pg_status_log_lines_dropped",
            "Log lines lost because stderr did not accept them.",
            dropped_log_lines,
        ),
    ]
    registry.register(_Families(families))
    registry.register(_PROCESS)
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is not a number
        encode, media_type = choose_encoder("")
    return media_type, encode(registry)


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _snapshots(labels: Labels, clusters: Sequence[Figures], now: float) -> Iterator[Metric]:
    ready = GaugeMetricFamily(
        "pg_status_ready", "1 if every host has been checked since the start.", labels=labels
    )
    stale = GaugeMetricFamily(
        "pg_status_stale",
        "1 if the results of the checks are too old to be served.",
        labels=labels,
    )
    masters = GaugeMetricFamily(
        "pg_status_masters",
        "Healthy hosts of the cluster that are not in recovery; 2 or more are a split brain.",
        labels=labels,
    )
    for figures in clusters:
        snapshot, values = figures.snapshot, figures.values
        ready.add_metric(values, float(snapshot.ready))
        stale.add_metric(values, float(snapshot.ready and snapshot.is_stale(now)))
        masters.add_metric(values, len(snapshot.masters))
    yield from (ready, stale, masters)


def _rejected(labels: Labels, clusters: Sequence[Figures], rejected: Collection[str]) -> Metric:
    family = GaugeMetricFamily(
        "pg_status_rejected",
        "1 if the newest configuration of the cluster cannot be used.",
        labels=labels,
    )
    for name in dict.fromkeys([*(figures.name for figures in clusters), *rejected]):
        family.add_metric(_named(labels, name), float(name in rejected))
    return family


def _upstreams(labels: Labels, clusters: Sequence[Figures]) -> Metric:
    up = GaugeMetricFamily(
        "pg_status_upstream_up",
        "1 if the upstream of a relay delivers evidence.",
        labels=[*labels, "upstream"],
    )
    for figures in clusters:
        for name, delivers in figures.delivering.items():
            up.add_metric([*figures.values, _label(name)], float(delivers))
    return up


def _hosts(labels: Labels, clusters: Sequence[Figures], now: float) -> Iterator[Metric]:
    def gauge(name: str, help_text: str, *more: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            f"pg_status_host_{name}", help_text, labels=[*labels, "host", *more]
        )

    up = gauge(
        "up", "1 if alive: the last check succeeded, or fewer than max_fails checks have failed."
    )
    possible_dead = gauge("possible_dead", "1 if alive, but the last check failed or is overdue.")
    master = gauge("master", "1 if /master returns this host.")
    role = gauge("role", "1 for the role of the host.", "role")
    sync = gauge(
        "in_sync", "1 if the lag by time or by bytes is within the configured limit.", "by"
    )
    admits = gauge("admits", "1 if the host accepts new sessions.")
    timeline = gauge("timeline", "Timeline that the host writes or receives.")
    seconds = gauge("lag_seconds", "Upper bound of the replication lag behind the master.")
    size = gauge("lag_bytes", "WAL that the master has written and the host has not replayed.")
    lsn = gauge("lsn_bytes", "WAL position: replayed by a replica, written by a master.")
    age = gauge("evidence_age_seconds", "Time since the start of the last successful check.")
    for figures, status in ((f, status) for f in clusters for status in f.snapshot.hosts):
        host = [*figures.values, _label(status.host)]
        up.add_metric(host, float(status.alive))
        possible_dead.add_metric(host, float(status.possible_dead))
        master.add_metric(host, float(status.master))
        for word in Role:
            role.add_metric([*host, word], float(status.role is word))
        sync.add_metric([*host, "time"], float(status.sync_by_time))
        sync.add_metric([*host, "bytes"], float(status.sync_by_bytes))
        # An unknown value has no sample: any number would be taken for a measurement.
        for family, value in (
            (admits, status.admits),
            (timeline, status.timeline),
            (seconds, status.lag_ms),
            (size, status.lag_bytes),
            (lsn, status.lsn),
            (age, None if status.seen is None else max(0.0, now - status.seen)),
        ):
            number = _number(value)
            if number is not None:
                family.add_metric(host, number / 1000 if family is seconds else number)
    yield from (up, possible_dead, master, role, sync, admits, timeline, seconds, size, lsn, age)


def _checks(labels: Labels, clusters: Sequence[Figures]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "pg_status_check_duration_seconds",
        "Duration of the checks, including the login.",
        labels=[*labels, "host"],
    )
    failures = CounterMetricFamily(
        "pg_status_failed_checks", "Failed checks by cause.", labels=[*labels, "host", "cause"]
    )
    roles = CounterMetricFamily(
        "pg_status_role_changes", "Changes of the role of a host.", labels=[*labels, "host"]
    )
    limits = [*map(str, DURATION_LIMITS), "+Inf"]
    for figures in clusters:
        for host, checks in figures.checks.hosts.items():
            buckets = list(zip(limits, accumulate(checks.durations), strict=True))
            values = [*figures.values, _label(host)]
            durations.add_metric(values, buckets, checks.seconds)
            for cause, number in checks.failures.copy().items():
                failures.add_metric([*values, cause], number)
            roles.add_metric(values, checks.role_changes)
    yield from (durations, failures, roles)


def _requests(
    labels: Labels, clusters: Sequence[str], counts: Mapping[RequestKind, int]
) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "pg_status_http_requests",
        "HTTP requests that were answered.",
        labels=[*labels, "endpoint", "status"],
    )
    fallbacks = CounterMetricFamily(
        "pg_status_fallbacks",
        "Requests for a replica that were answered with the master.",
        labels=[*labels, "endpoint"],
    )
    totals: Counter[tuple[str, ...]] = Counter()
    # All series exist from the start: rate() ignores the step from no value to 1.
    fallen_back: Counter[tuple[str, ...]] = Counter(
        {
            (*_named(labels, name), f"/{kind}"): 0
            for name in clusters
            for kind in Kind
            if kind is not Kind.MASTER
        }
    )
    for (endpoint, status, fell_back, cluster), number in counts.items():
        name = clusters[0] if cluster is None and len(clusters) == 1 else cluster
        if name is not None and name not in clusters:  # it was removed, or is not of interest
            continue
        values = _named(labels, name or "")
        totals[*values, endpoint, status] += number
        if fell_back:
            fallen_back[*values, endpoint] += number
    for key, number in totals.items():
        answered.add_metric(key, number)
    for key, number in fallen_back.items():
        fallbacks.add_metric(key, number)
    yield from (answered, fallbacks)


def _named(labels: Labels, cluster: str) -> tuple[str, ...]:
    return (_label(cluster),) if labels else ()


def _hooks(labels: Labels, clusters: Sequence[Figures]) -> Iterator[Metric]:
    runs = CounterMetricFamily(
        "pg_status_hook_runs",
        "Runs of the on_change command by result.",
        labels=[*labels, "result"],
    )
    pending = GaugeMetricFamily(
        "pg_status_hook_pending",
        "1 if the newest state has not been reported to the on_change command yet.",
        labels=labels,
    )
    for figures in clusters:
        for result, number in figures.hook_runs.items():
            runs.add_metric([*figures.values, result], number)
        pending.add_metric(figures.values, float(figures.hook_pending))
    yield from (runs, pending)


def _label(host: object) -> str:
    """A value that can be encoded; names come from the environment, in any encoding."""
    return str(host).encode(errors="backslashreplace").decode()


def _number(value: float | None) -> float | None:
    """A value that can be rendered; None for an integer that no float can represent."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None
