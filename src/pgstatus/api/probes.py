"""Health as a status code: of this instance (``/live``, ``/ready``, ``/health``, ``/version``), and
of one host for load balancers (``/is_master``, ``/is_replica``, ``/is_alive``).
"""

import falcon

from pgstatus import __version__
from pgstatus.api import params
from pgstatus.api.resource import Resource
from pgstatus.api.service import Refused
from pgstatus.core.selection import Kind, refusal, why_not_master
from pgstatus.core.snapshot import HostStatus, Snapshot


class Version(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        params.send_text(resp, __version__)


class Live(Resource):
    from_snapshot = False  # because of the header

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # `pg-status reload` waits until it changes.
        resp.set_header("X-Pg-Status-Reloads", self.service.reloads())
        params.send_text(resp, "OK")


class Ready(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self.service.is_ready():
            raise Refused(falcon.HTTP_503, "pg_monitor is not ready")
        params.send_text(resp, "OK")


class Health(Resource):
    """The instance has an answer to at least one question."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        if not snapshot.master and not any(s.is_live_replica for s in snapshot.hosts):
            raise Refused(falcon.HTTP_503, "neither a master nor a live replica is known")
        params.send_text(resp, "OK")


class _HostCheck(Resource):
    """200 if the condition holds for a host; 503 with the reason if not."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        status = params.named(params.host_name(req), snapshot)
        if status is None:
            resp.status = falcon.HTTP_404
            return
        reason = self.objection(req, snapshot, status)
        if reason is not None:
            raise Refused(falcon.HTTP_503, f"{status.host}: {reason}")
        params.send_text(resp, "OK")

    def on_options(self, req: falcon.Request, resp: falcon.Response) -> None:
        # The default method of HAProxy's `option httpchk`.
        self.on_get(req, resp)

    def objection(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        raise NotImplementedError


class IsMaster(_HostCheck):
    """The host is the answer of ``/master``."""

    def objection(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        return None if status.master else why_not_master(status)


class IsReplica(_HostCheck):
    """The host may be the answer of ``/replica`` with the same limits."""

    def objection(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        return refusal(
            snapshot, status, params.question(req, Kind.REPLICA, self.service.thresholds)
        )


class IsAlive(_HostCheck):
    """The host responded recently, and fewer than ``max_fails`` checks have failed since."""

    def objection(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        return None if status.alive else status.reason
