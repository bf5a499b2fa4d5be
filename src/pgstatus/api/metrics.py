"""``/metrics`` for Prometheus."""

import falcon

from pgstatus.api import wire
from pgstatus.api.resource import Resource
from pgstatus.api.service import Service


class Metrics(Resource):
    from_snapshot = False  # ages and counters

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._imported = False

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self._imported:
            # The first scrape imports prometheus_client, which takes tens of milliseconds that the
            # event loop does not have; nor may it wait for another scrape that is importing.
            wire.note_of(req).wait()
        resp.content_type, resp.data = self.service.expose(req.get_header("Accept", default=""))
        self._imported = True
