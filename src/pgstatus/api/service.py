"""What the resources share, and the error that ends a request."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import falcon

from pgstatus.api.feeds import Feed, Feeds
from pgstatus.core.bucket import Bucket
from pgstatus.core.selection import Place, Thresholds, Turns
from pgstatus.core.snapshot import Snapshot
from pgstatus.telemetry.history import History


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
    """What the resources share."""

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
    expose: Callable[[str], tuple[str, bytes]]
    """The metrics for this ``Accept`` header: media type and text."""
    tokens: Sequence[bytes] = ()
    """The accepted bearer tokens; empty: no token is needed."""
    reloads: Callable[[], str] = lambda: "0 none"
    """The number of finished reloads, and the result of the last, as in ``3 applied``."""
    cluster: str | None = None
    """The configured name of the cluster."""
    documentation: str | None = None
    """The URL of the documentation."""
    report: Callable[[], Mapping[str, object]] = dict
    """The condition of pg-status itself, for the status page."""
    fallback_bucket: Bucket | None = None
    """Limits how many questions about replicas are answered with the master; None: no limit."""
    turns: Turns = field(default_factory=Turns)
    evidence: Feed | None = None
    """The results of its checks; None: it makes none."""
    request_positions: Callable[[float], None] = lambda seconds: None
    """Check positions for so many seconds."""

    def is_ready(self) -> bool:
        return self.read().ready

    def snapshot(self) -> Snapshot:
        """The snapshot to answer from; `Refused` if there is none, or it is too old."""
        snapshot = self.read()
        reason = snapshot.unusable(self.now())
        if reason is not None:
            raise Refused(falcon.HTTP_503, reason)
        return snapshot
