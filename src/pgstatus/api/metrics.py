"""``/metrics`` for Prometheus."""

import falcon

from pgstatus.api.exchange import Slow, exchange_of
from pgstatus.api.resource import Resource


class Metrics(Resource):
    from_snapshot = False  # ages and counters

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        # The text of a hundred hosts, and the first import of prometheus_client, take tens of
        # milliseconds each.
        if cluster is not None:
            self.service(req, cluster)
        exchange_of(req).defer(Slow())
        accept = req.get_header("Accept", default="")
        resp.content_type, resp.data = self.daemon.expose(accept, cluster)
