"""``/metrics``: the snapshot and the counters in the formats of Prometheus.

Every scrape creates all series from the snapshot and the counters, so no series outlives its host.
prometheus_client renders them; the daemon imports it, through this module, at the first scrape.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from pgstatus.core.snapshot import HostStatus, Role, Snapshot
from pgstatus.telemetry.counters import (
    DURATION_LIMITS,
    Checks,
    HostChecks,
    RequestKind,
    Requests,
    Watchers,
)

# One for all scrapes: it stores the boot time of the machine, which the kernel computes with an
# error of a second at each request. A changed start time would be taken for a restart.
_PROCESS = ProcessCollector(registry=None)


def expose(
    accept: str,
    *,
    snapshot: Snapshot,
    now: float,
    requests: Requests,
    watchers: Watchers,
    checks: Checks,
    hook_runs: Mapping[str, int],
    hook_pending: bool,
    dropped_log_lines: int,
) -> tuple[str, bytes]:
    """The media type and the text for a request with this ``Accept`` header."""
    registry = CollectorRegistry()
    families = [
        InfoMetricFamily("pg_status_build", "Version of pg-status.", {"version": __version__}),
        *_cluster(snapshot, now),
        *_hosts(snapshot.hosts, now),
        *_checks(checks.hosts),
        *_requests(requests.read()),
        GaugeMetricFamily(
            "pg_status_watchers", "Subscribers of /watch, including long polls.", watchers.count
        ),
        CounterMetricFamily(
            "pg_status_watch_events", "Events sent to subscribers of /watch.", watchers.events
        ),
        *_hook(hook_runs, pending=hook_pending),
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


def _cluster(snapshot: Snapshot, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "pg_status_ready",
        "1 if every host has been checked since the start.",
        float(snapshot.ready),
    )
    yield GaugeMetricFamily(
        "pg_status_stale",
        "1 if the results of the checks are too old to be served.",
        float(snapshot.ready and snapshot.is_stale(now)),
    )
    yield GaugeMetricFamily(
        "pg_status_masters",
        "Healthy hosts of the cluster that are not in recovery; 2 or more are a split brain.",
        len(snapshot.masters),
    )


def _hosts(hosts: Iterable[HostStatus], now: float) -> Iterator[Metric]:
    def gauge(name: str, help_text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"pg_status_host_{name}", help_text, labels=["host"])

    up = gauge(
        "up", "1 if alive: the last check succeeded, or fewer than max_fails checks have failed."
    )
    possible_dead = gauge("possible_dead", "1 if alive, but the last check failed or is overdue.")
    master = gauge("master", "1 if /master returns this host.")
    role = GaugeMetricFamily(
        "pg_status_host_role", "1 for the role of the host.", labels=["host", "role"]
    )
    sync = GaugeMetricFamily(
        "pg_status_host_in_sync",
        "1 if the lag by time or by bytes is within the configured limit.",
        labels=["host", "by"],
    )
    admits = gauge("admits", "1 if the host accepts new sessions.")
    timeline = gauge("timeline", "Timeline that the host writes or receives.")
    seconds = gauge("lag_seconds", "Upper bound of the replication lag behind the master.")
    size = gauge("lag_bytes", "WAL that the master has written and the host has not replayed.")
    lsn = gauge("lsn_bytes", "WAL position: replayed by a replica, written by a master.")
    age = gauge("evidence_age_seconds", "Time since the start of the last successful check.")
    for status in hosts:
        host = [_label(status.host)]
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


def _checks(hosts: dict[str, HostChecks]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "pg_status_check_duration_seconds",
        "Duration of the checks, including the login.",
        labels=["host"],
    )
    failures = CounterMetricFamily(
        "pg_status_failed_checks", "Failed checks by cause.", labels=["host", "cause"]
    )
    roles = CounterMetricFamily(
        "pg_status_role_changes",
        "Changes of the role of a host.",
        labels=["host"],
    )
    limits = [*map(str, DURATION_LIMITS), "+Inf"]
    for host, checks in hosts.items():
        buckets = list(zip(limits, accumulate(checks.durations), strict=True))
        label = _label(host)
        durations.add_metric([label], buckets, checks.seconds)
        for cause, number in checks.failures.copy().items():
            failures.add_metric([label, cause], number)
        roles.add_metric([label], checks.role_changes)
    yield from (durations, failures, roles)


def _requests(counts: dict[RequestKind, int]) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "pg_status_http_requests",
        "HTTP requests that were answered.",
        labels=["endpoint", "status"],
    )
    fallbacks = CounterMetricFamily(
        "pg_status_fallbacks",
        "Requests for a replica that were answered with the master.",
        labels=["endpoint"],
    )
    totals: Counter[tuple[str, str]] = Counter()
    # All series exist from the start: rate() ignores the step from no value to 1.
    fallen_back: Counter[str] = Counter({f"/{kind}": 0 for kind in Kind if kind is not Kind.MASTER})
    for (endpoint, status, fell_back), number in counts.items():
        totals[endpoint, status] += number
        if fell_back:
            fallen_back[endpoint] += number
    for labels, number in totals.items():
        answered.add_metric(labels, number)
    for endpoint, number in fallen_back.items():
        fallbacks.add_metric([endpoint], number)
    yield from (answered, fallbacks)


def _hook(results: Mapping[str, int], *, pending: bool) -> Iterator[Metric]:
    runs = CounterMetricFamily(
        "pg_status_hook_runs", "Runs of the on_change command by result.", labels=["result"]
    )
    for result, number in results.items():
        runs.add_metric([result], number)
    yield runs
    yield GaugeMetricFamily(
        "pg_status_hook_pending",
        "1 if the newest state has not been reported to the on_change command yet.",
        float(pending),
    )


def _label(host: object) -> str:
    """A value that can be encoded; names come from the environment, in any encoding."""
    return str(host).encode(errors="backslashreplace").decode()


def _number(value: float | None) -> float | None:
    """A value that can be rendered; None for an integer that no float can represent."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None
