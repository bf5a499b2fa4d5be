"""``/metrics`` for Prometheus."""

import sys

import falcon

from pgstatus.api import wire
from pgstatus.api.resource import Resource


class Metrics(Resource):
    from_snapshot = False  # ages and counters

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if "pgstatus.metrics" not in sys.modules:
            # To import it takes tens of milliseconds, which the event loop does not have.
            wire.note_of(req).wait()
        resp.content_type, resp.data = self.service.expose(req.get_header("Accept", default=""))
