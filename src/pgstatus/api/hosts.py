"""What is known of the hosts: ``/hosts``, ``/status``, ``/replicas_info``; always JSON."""

import falcon

from pgstatus.api import params
from pgstatus.api.resource import Resource
from pgstatus.core.render import host_entry, host_status


class Hosts(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        params.send_json(resp, [host_entry(status) for status in self.service.snapshot().hosts])


class Status(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        status = params.named(params.host_name(req), snapshot)
        if status is None:
            resp.status = falcon.HTTP_404
        else:
            params.send_json(resp, host_status(status))


class ReplicasInfo(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts = self.service.snapshot().hosts
        params.send_json(resp, [{"host": s.host.name} for s in hosts if s.is_live_replica])
