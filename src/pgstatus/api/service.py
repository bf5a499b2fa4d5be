"""What the resources share: the clusters, and what belongs to the process."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import falcon

from pgstatus.api.feeds import Feed, Feeds
from pgstatus.core.bucket import Bucket
from pgstatus.core.selection import Place, Thresholds, Turns
from pgstatus.core.snapshot import Snapshot
from pgstatus.telemetry.history import History

# Names in an error text.
_SHOWN = 10


class Refused(Exception):  # noqa: N818  # a response, not a defect
    """The request ends here, with this status and ``{"error_text": …}``.

    ``more`` are further fields of it, for programs.
    """

    def __init__(self, status: str, error_text: str, **more: object) -> None:
        super().__init__(error_text)
        self.status = status
        self.error_text = error_text
        self.more = more


@dataclass(kw_only=True)
class Service:
    """One cluster, with one configuration."""

    read: Callable[[], Snapshot]
    """The latest snapshot."""
    now: Callable[[], float]
    """The time on the clock of the snapshot, seconds."""
    thresholds: Thresholds
    place: Place
    min_lsn_wait: float
    """Seconds that a ``min_lsn`` request waits if it has no ``wait_ms``."""
    feeds: Feeds
    history: History
    cluster: str | None = None
    """The configured name of the cluster."""
    fallback_bucket: Bucket | None = None
    """Limits how many questions about replicas are answered with the master; None: no limit."""
    turns: Turns = field(default_factory=Turns)
    evidence: Feed | None = None
    """The results of its checks; None: it makes none."""
    request_positions: Callable[[float], None] = lambda seconds: None
    """Check positions for so many seconds."""

    def snapshot(self) -> Snapshot:
        """The snapshot to answer from; `Refused` if there is none, or it is too old."""
        snapshot = self.read()
        reason = snapshot.unusable(self.now())
        if reason is not None:
            raise Refused(falcon.HTTP_503, reason)
        return snapshot


@dataclass(kw_only=True)
class Daemon:
    """What the resources share."""

    clusters: Callable[[], Mapping[str, Service]]
    """By name; the name of the only cluster may be empty."""
    expose: Callable[[str, str | None], tuple[str, bytes]]
    """The metrics for this ``Accept`` header: media type and text; of one cluster, or of all."""
    rejected: Callable[[], Mapping[str, Sequence[str]]] = dict
    """The clusters whose configuration cannot be used, and the reasons."""
    tokens: Callable[[], Sequence[bytes]] = tuple
    """The accepted bearer tokens; empty: no token is needed."""
    reloads: Callable[[], str] = lambda: "0 none"
    """The number of finished reloads, and the result of the last, as in ``3 applied``."""
    documentation: Callable[[], str | None] = lambda: None
    """The URL of the documentation."""
    report: Callable[[], Mapping[str, object]] = dict
    """The condition of pg-status itself, for the status page."""

    @property
    def only(self) -> Service | None:
        """The service of the only cluster; None: there are several, or none."""
        clusters = self.clusters()
        return next(iter(clusters.values())) if len(clusters) == 1 else None

    def service(self, cluster: str | None, path: str) -> Service:
        """The service of a cluster; without a name, of the only one. `Refused`: there is none."""
        if cluster is None:
            service = self.only
            if service is None:
                raise Refused(falcon.HTTP_404, self._which(path))
            return service
        service = self.clusters().get(cluster) if cluster else None
        if service is None and cluster in self.rejected():
            # Not 404, which clients take for a statement about the hosts.
            raise Refused(
                falcon.HTTP_503,
                f"cluster {cluster} is not ready: its configuration cannot be used; see /clusters",
            )
        if service is None:
            raise Refused(falcon.HTTP_404, f"unknown cluster {cluster}; see /clusters")
        return service

    def _which(self, path: str) -> str:
        names = listed(dict.fromkeys([*self.clusters(), *self.rejected()]))
        if not names:
            return "no cluster is configured"
        return f"several clusters are configured: use /c/NAME{path}, where NAME is one of {names}"


def listed(names: Iterable[str]) -> str:
    """The first names, and how many there are besides."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more (see /clusters)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
