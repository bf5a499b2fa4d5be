"""What is known of the hosts: ``/hosts``, ``/status``, ``/replicas_info``; always JSON."""

import falcon

from pgstatus.answers import host_entry, host_status
from pgstatus.api import wire
from pgstatus.api.resource import Resource


class Hosts(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        wire.send_json(resp, [host_entry(status) for status in self.service.snapshot().hosts])


class Status(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        status = wire.named(wire.host_name(req), snapshot)
        if status is None:
            resp.status = falcon.HTTP_404
        else:
            wire.send_json(resp, host_status(status))


class ReplicasInfo(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts = self.service.snapshot().hosts
        wire.send_json(resp, [{"host": s.host.name} for s in hosts if s.is_live_replica])
