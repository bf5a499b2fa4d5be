"""``/metrics`` for Prometheus."""

import falcon

from pgstatus.api import params
from pgstatus.api.resource import Resource


class Metrics(Resource):
    from_snapshot = False  # ages and counters

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # By a thread: the text of a hundred hosts takes tens of milliseconds, the first import of
        # prometheus_client as many, and the event loop has none of them.
        params.note_of(req).wait()
        resp.content_type, resp.data = self.service.expose(req.get_header("Accept", default=""))
