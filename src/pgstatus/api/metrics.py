"""``/metrics`` for Prometheus."""

import falcon

from pgstatus.api.exchange import Slow, exchange_of
from pgstatus.api.resource import Resource


class Metrics(Resource):
    from_snapshot = False  # ages and counters

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # The text of a hundred hosts, and the first import of prometheus_client, take tens of
        # milliseconds each.
        exchange_of(req).defer(Slow())
        resp.content_type, resp.data = self.service.expose(req.get_header("Accept", default=""))
