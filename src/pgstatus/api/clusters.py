"""``/clusters``: which clusters are monitored, and the state of each in one line."""

import falcon

from pgstatus.api import params
from pgstatus.api.overview import cluster_entries
from pgstatus.api.resource import Resource


class Clusters(Resource):
    """A cluster whose changed configuration cannot be used is listed with its last one."""

    from_snapshot = False  # it depends on the snapshots of all clusters

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        params.send_json(resp, cluster_entries(self.daemon))


class WithoutSlash(Resource):
    """``/c/NAME``: the status page of a cluster is ``/c/NAME/``."""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        self.service(req, cluster)
        # Relative, because a proxy may have removed a prefix of the path.
        raise falcon.HTTPPermanentRedirect(f"{cluster}/")
