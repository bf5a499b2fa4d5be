"""``/watch`` and ``/watch/QUESTION``: change notifications, as a stream or by long polling."""

import falcon

from pgstatus.api import params
from pgstatus.api.exchange import Waiting, exchange_of
from pgstatus.api.feeds import SubjectFeed
from pgstatus.api.resource import Resource
from pgstatus.api.service import Daemon, Refused, Service
from pgstatus.core.selection import Kind
from pgstatus.core.watching import Subject

WAIT_MS = 30_000
"""How long a long poll waits if it has no ``wait_ms``, and at most."""


class Watch(Resource):
    """The events of one kind of question, or of all hosts."""

    from_snapshot = False

    def __init__(self, daemon: Daemon, kind: Kind | None = None) -> None:
        super().__init__(daemon)
        self._kind = kind

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        since = params.since(req)
        wait = params.watch_wait(req, since, WAIT_MS)
        service = self.service(req, cluster)
        feed = service.feeds.of(self._subject(req, service))
        if feed is None:
            raise Refused(falcon.HTTP_503, "too many different questions are watched")
        if since is None:
            self.stream(req, resp, feed)
        else:
            self._poll(req, resp, feed, since, wait)

    def _poll(
        self, req: falcon.Request, resp: falcon.Response, feed: SubjectFeed, since: str, wait: float
    ) -> None:
        if feed.id != since:
            resp.content_type = "application/json"
            resp.text = feed.json()
            return
        if wait and req.method == "GET":
            exchange_of(req).defer(Waiting(feed, wait))
        resp.status = falcon.HTTP_204

    def _subject(self, req: falcon.Request, service: Service) -> Subject:
        if self._kind is None:
            every = params.every(req)
            return Subject() if every is None else Subject(with_figures=True, every=every)
        return Subject(params.watched_question(req, self._kind, service.thresholds))
