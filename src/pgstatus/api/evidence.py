"""``/evidence``: the results of all checks, for relays, as a stream of documents."""

from collections.abc import Callable, Hashable
from math import inf

import falcon

from pgstatus import clock
from pgstatus.api import params
from pgstatus.api.feeds import Feed
from pgstatus.api.resource import Resource
from pgstatus.api.service import Refused, Service
from pgstatus.core.snapshot import Snapshot
from pgstatus.core.watching import condition
from pgstatus.fleet.document import Document, encode
from pgstatus.fleet.evidence import BATCH, INTERVAL, Evidence

# Seconds between two documents at least: the results that a failure of a server causes are one
# document, and so are the position checks of several replicas.
_SPACING = 0.002


class EvidenceFeed(Feed):
    """The documents of one monitor.

    A subscriber that has missed one receives a complete document, others receive what is new. A
    result that matters is sent at once, others are collected.
    """

    def __init__(
        self, evidence: Evidence, read: Callable[[], Snapshot], closed: Callable[[], bool]
    ) -> None:
        """``read``: the latest snapshot; ``closed``: see `Feed.closed`."""
        super().__init__()
        self._evidence = evidence
        self._read = read
        self._closed = closed
        self._snapshot: Snapshot | None = None
        """What the condition of the hosts was last compared in."""
        self._condition: Hashable = None
        self._has_changed = False
        """The condition, since the last event."""
        self._since = self._version = evidence.version
        """The results that the last event contains: after the first version, up to the second."""
        self._noticed_at = inf
        """When a result was first seen that was not sent yet."""
        self._sent_at = clock.now()

    @property
    def closed(self) -> bool:
        return self._closed()

    @property
    def due(self) -> float:
        if self._is_urgent():
            return self._sent_at + _SPACING
        return min(self._noticed_at + BATCH, self._sent_at + INTERVAL)

    def refresh(self) -> bool:
        now = clock.now()
        if self._noticed_at == inf and self._evidence.version != self._version:
            self._noticed_at = now
        return now >= self.due

    def event(self) -> bytes:
        # Not the same for several subscribers: it shows each that it was made after its request.
        _, document = self._evidence.document()
        return _event(document)

    def next_event(self, *, supersedes: bool) -> bytes:
        self._since = self._since if supersedes else self._version
        self._version, document = self._evidence.document(self._since)
        self._sent_at, self._noticed_at, self._has_changed = clock.now(), inf, False
        return _event(document)

    def _is_urgent(self) -> bool:
        snapshot = self._read()
        if snapshot is not self._snapshot:
            self._snapshot, before, self._condition = snapshot, self._condition, condition(snapshot)
            self._has_changed |= self._condition != before
        return self._has_changed or self._evidence.urgent > self._version


def _event(document: Document) -> bytes:
    return b"event: evidence\ndata: " + encode(document) + b"\n\n"


class EvidenceStream(Resource):
    """``/evidence``"""

    from_snapshot = False

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        self.stream(req, resp, evidence_of(self.service(req, cluster)))


class EvidencePositions(Resource):
    """``/evidence/positions?wait_ms=N``: check positions for so long."""

    from_snapshot = False

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        service = self.service(req, cluster)
        evidence_of(service)
        seconds = params.positions_wait(req)
        if req.method == "GET":
            service.request_positions(seconds)
        resp.status = falcon.HTTP_204


def evidence_of(service: Service) -> Feed:
    """`Refused`: it makes no checks."""
    if service.evidence is None:
        raise Refused(falcon.HTTP_404, "this instance is a relay: it has no evidence of its own")
    return service.evidence
