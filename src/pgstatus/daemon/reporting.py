"""What the process reports about its clusters: the metrics, and the line of the service manager."""

from collections.abc import Collection, Sequence

from pgstatus import clock
from pgstatus.core.snapshot import Snapshot
from pgstatus.daemon.cluster import Cluster
from pgstatus.telemetry import logs
from pgstatus.telemetry.counters import Requests, Watchers


def exposition(
    accept: str,
    clusters: Collection[Cluster],
    rejected: Collection[str],
    *,
    requests: Requests,
    watchers: Watchers,
) -> tuple[str, bytes]:
    """The metrics for this ``Accept`` header: media type and text; ``rejected``: the names of
    clusters whose configuration cannot be used.
    """
    # Imported by the first scrape only: it takes memory.
    from pgstatus.telemetry.prometheus import Figures, expose  # noqa: PLC0415

    return expose(
        accept,
        clusters=[
            Figures(
                name=cluster.name,
                snapshot=cluster.read(),
                checks=cluster.checks,
                hook_runs=cluster.hook.runs.copy(),
                hook_pending=cluster.hook.is_pending,
                delivering=cluster.delivering,
            )
            for cluster in clusters
        ],
        rejected=rejected,
        now=clock.now(),
        requests=requests,
        watchers=watchers,
        dropped_log_lines=logs.dropped(),
    )


def summary(snapshots: Sequence[Snapshot]) -> str:
    """The line that ``systemctl status`` shows."""
    hosts = [status for snapshot in snapshots for status in snapshot.hosts]
    alive = sum(status.alive for status in hosts)
    if not any(snapshot.ready for snapshot in snapshots):
        return "first round of checks"
    if len(snapshots) != 1:
        masters = sum(snapshot.master is not None for snapshot in snapshots)
        return f"{masters} of {len(snapshots)} clusters have a master, {_alive(alive, len(hosts))}"
    (master,) = (snapshot.master for snapshot in snapshots)
    known = f"master is {master.host}" if master else "no master"
    return f"{known}, {_alive(alive, len(hosts))}"


def _alive(alive: int, hosts: int) -> str:
    return f"{alive} of {hosts} hosts alive"
