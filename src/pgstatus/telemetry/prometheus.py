"""``/metrics``: everything that is counted or known, in the formats of Prometheus.

All series are made anew from the snapshot and the counters at each scrape, so none survives its
host. The formats are prometheus_client's; nothing else of the daemon imports it, and this module
itself is imported by the first scrape.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
from pgstatus.telemetry.counters import DURATION_LIMITS, Checks, HostChecks, RequestKind, Requests

# Once: it keeps the time that the machine was started, which the kernel computes anew, a second
# more or less, at each look. A start of the process that moves would be taken for a restart.
_PROCESS = ProcessCollector(registry=None)


def expose(
    accept: str,
    *,
    snapshot: Snapshot,
    now: float,
    requests: Requests,
    checks: Checks,
    hook_runs: Mapping[str, int],
    hook_pending: bool,
) -> tuple[str, bytes]:
    """The media type and the text for whoever sends this ``Accept``."""
    registry = CollectorRegistry()
    registry.register(_Families(snapshot, now, requests, checks, hook_runs, hook_pending))
    registry.register(_PROCESS)
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, media_type = choose_encoder("")
    return media_type, encode(registry)


class _Families(Collector):
    def __init__(
        self,
        snapshot: Snapshot,
        now: float,
        requests: Requests,
        checks: Checks,
        hook_runs: Mapping[str, int],
        hook_pending: bool,
    ) -> None:
        self._snapshot = snapshot
        self._now = now
        self._requests = requests
        self._checks = checks
        self._hook_runs = hook_runs
        self._hook_pending = hook_pending

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("pg_status_build", "The version.", {"version": __version__})
        yield from _cluster(self._snapshot, self._now)
        yield from _of_hosts(self._snapshot.hosts, self._now)
        yield from _of_checks(self._checks.hosts)
        yield from _of_requests(self._requests.read())
        yield from _of_hook(self._hook_runs, pending=self._hook_pending)


def _cluster(snapshot: Snapshot, now: float) -> Iterator[Metric]:
    yield GaugeMetricFamily("pg_status_ready", "1: every host was asked.", float(snapshot.ready))
    yield GaugeMetricFamily(
        "pg_status_stale",
        "1: what is known is too old to be served.",
        float(snapshot.ready and snapshot.is_stale(now)),
    )
    yield GaugeMetricFamily(
        "pg_status_masters",
        "Healthy hosts of the cluster that say they are its master; 2 or more: split brain.",
        len(snapshot.masters),
    )


def _of_hosts(hosts: Iterable[HostStatus], now: float) -> Iterator[Metric]:
    def gauge(name: str, help_text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"pg_status_host_{name}", help_text, labels=["host"])

    up = gauge("up", "1: alive, that is answering, or failing for less than max_fails checks.")
    doubtful = gauge("possible_dead", "1: alive, but the last check failed or is overdue.")
    named = gauge("master", "1: /master names it.")
    role = GaugeMetricFamily(
        "pg_status_host_role", "1 for what it says it is.", labels=["host", "role"]
    )
    sync = GaugeMetricFamily(
        "pg_status_host_in_sync",
        "1: within the configured limit by time or by bytes, and on the master's history.",
        labels=["host", "by"],
    )
    timeline = gauge("timeline", "The timeline that it writes or receives.")
    seconds = gauge("lag_seconds", "Upper bound of how far it is behind the master.")
    size = gauge("lag_bytes", "Log that the master had written and it had not replayed.")
    lsn = gauge("lsn_bytes", "Replica: replayed up to here. Master: written up to here.")
    age = gauge("evidence_age_seconds", "Time since its last good check.")
    for status in hosts:
        host = [str(status.host)]
        up.add_metric(host, float(status.alive))
        doubtful.add_metric(host, float(status.possible_dead))
        named.add_metric(host, float(status.master))
        for word in Role:
            role.add_metric([*host, word], float(status.role is word))
        sync.add_metric([*host, "time"], float(status.sync_by_time))
        sync.add_metric([*host, "bytes"], float(status.sync_by_bytes))
        # What is not known has no sample: a number would be taken for a fact.
        for family, value in (
            (timeline, status.timeline),
            (seconds, None if status.lag_ms is None else status.lag_ms / 1000),
            (size, status.lag_bytes),
            (lsn, status.lsn),
            (age, None if status.seen is None else max(0.0, now - status.seen)),
        ):
            if value is not None:
                family.add_metric(host, value)
    yield from (up, doubtful, named, role, sync, timeline, seconds, size, lsn, age)


def _of_checks(hosts: dict[str, HostChecks]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "pg_status_check_duration_seconds", "Checks by how long they took.", labels=["host"]
    )
    failures = CounterMetricFamily(
        "pg_status_failed_checks", "Failed checks by cause.", labels=["host", "cause"]
    )
    roles = CounterMetricFamily(
        "pg_status_role_changes",
        "Times that a host said it was something else than before.",
        labels=["host"],
    )
    limits = [*map(str, DURATION_LIMITS), "+Inf"]
    for host, checks in hosts.items():
        buckets = list(zip(limits, accumulate(checks.durations), strict=True))
        durations.add_metric([host], buckets, checks.seconds)
        for cause, number in checks.failures.copy().items():
            failures.add_metric([host, cause], number)
        roles.add_metric([host], checks.role_changes)
    yield from (durations, failures, roles)


def _of_requests(counts: dict[RequestKind, int]) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "pg_status_http_requests", "Answered requests.", labels=["endpoint", "status"]
    )
    fallbacks = CounterMetricFamily(
        "pg_status_fallbacks",
        "Questions about replicas that were answered with the master.",
        labels=["endpoint"],
    )
    totals: Counter[tuple[str, str]] = Counter()
    # Each from the start: rate() does not see the step from nothing to one.
    fell: Counter[str] = Counter({f"/{kind}": 0 for kind in Kind if kind is not Kind.MASTER})
    for (endpoint, status, fell_back), number in counts.items():
        totals[endpoint, status] += number
        if fell_back:
            fell[endpoint] += number
    for labels, number in totals.items():
        answered.add_metric(labels, number)
    for endpoint, number in fell.items():
        fallbacks.add_metric([endpoint], number)
    yield from (answered, fallbacks)


def _of_hook(results: Mapping[str, int], *, pending: bool) -> Iterator[Metric]:
    runs = CounterMetricFamily(
        "pg_status_hook_runs", "Runs of the on_change command by result.", labels=["result"]
    )
    for result, number in results.items():
        runs.add_metric([result], number)
    yield runs
    yield GaugeMetricFamily(
        "pg_status_hook_pending",
        "1: the on_change command has not been told the newest state yet.",
        float(pending),
    )
