"""What the resources share, and how a request that cannot be answered ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import falcon

from pgstatus.core.selection import Place, Thresholds, Turns
from pgstatus.core.snapshot import Snapshot
from pgstatus.monitor.waiters import Waiters
from pgstatus.telemetry.history import History


class Refused(Exception):  # noqa: N818  # an answer, not a defect
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
    """The newest snapshot."""
    now: Callable[[], float]
    """The moment, on the snapshot's clock."""
    thresholds: Thresholds
    place: Place
    waiters: Waiters
    min_lsn_wait: float
    """Seconds that a ``min_lsn`` request waits which does not say how long."""
    history: History
    expose: Callable[[str], tuple[str, bytes]]
    """The metrics for whoever sends this ``Accept``: their media type and text."""
    tokens: Sequence[bytes] = ()
    """Whoever has one of them may ask; empty: everybody may."""
    turns: Turns = field(default_factory=Turns)

    def is_ready(self) -> bool:
        return self.read().ready

    def snapshot(self) -> Snapshot:
        """The snapshot to answer from; `Refused` while there is none that may be served."""
        snapshot = self.read()
        if not snapshot.ready:
            raise Refused(falcon.HTTP_503, "pg_monitor is not ready")
        if snapshot.is_stale(self.now()):
            raise Refused(falcon.HTTP_503, "what is known of the hosts is too old to be served")
        return snapshot
