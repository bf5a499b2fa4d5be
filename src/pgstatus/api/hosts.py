"""The state of the hosts: ``/hosts``, ``/status``, ``/replicas_info``; always JSON."""

import falcon

from pgstatus.api import params
from pgstatus.api.resource import Resource
from pgstatus.core.render import host_entry, host_status


class Hosts(Resource):
    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        params.send_json(
            resp, [host_entry(status) for status in self.service(req, cluster).snapshot().hosts]
        )


class Status(Resource):
    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        snapshot = self.service(req, cluster).snapshot()
        found = params.all_named(params.host_name(req), snapshot)
        if found:
            # The first one, as in 2.2, if several share the name.
            params.send_json(resp, host_status(found[0]))
        else:
            resp.status = falcon.HTTP_404


class ReplicasInfo(Resource):
    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        hosts = self.service(req, cluster).snapshot().hosts
        params.send_json(resp, [{"host": s.host.name} for s in hosts if s.is_live_replica])
