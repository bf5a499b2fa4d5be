"""Whether to use it, in a status code: for whoever runs pg-status (``/live``, ``/ready``,
``/health``, ``/version``) and for load balancers (``/is_master``, ``/is_replica``, ``/is_alive``).
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
    from_snapshot = False  # the header

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # `pg-status reload` waits for the next one.
        resp.set_header("X-Pg-Status-Reloads", self.service.reloads())
        params.send_text(resp, "OK")


class Ready(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self.service.is_ready():
            raise Refused(falcon.HTTP_503, "pg_monitor is not ready")
        params.send_text(resp, "OK")


class Health(Resource):
    """Should this instance be asked at all?"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        if not snapshot.master and not any(s.is_live_replica for s in snapshot.hosts):
            raise Refused(falcon.HTTP_503, "neither a master nor a live replica is known")
        params.send_text(resp, "OK")


class _HostCheck(Resource):
    """Is the host what it should be? 200, or 503 with the reason."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        status = params.named(params.host_name(req), snapshot)
        if status is None:
            resp.status = falcon.HTTP_404
            return
        reason = self.complaint(req, snapshot, status)
        if reason is not None:
            raise Refused(falcon.HTTP_503, f"{status.host}: {reason}")
        params.send_text(resp, "OK")

    def on_options(self, req: falcon.Request, resp: falcon.Response) -> None:
        # HAProxy's `option httpchk` asks with OPTIONS where it is not told otherwise.
        self.on_get(req, resp)

    def complaint(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        raise NotImplementedError


class IsMaster(_HostCheck):
    """``/master`` names it."""

    def complaint(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        return None if status.master else why_not_master(status)


class IsReplica(_HostCheck):
    """``/replica`` with the same limits may name it."""

    def complaint(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        return refusal(
            snapshot, status, params.question(req, Kind.REPLICA, self.service.thresholds)
        )


class IsAlive(_HostCheck):
    """It answered not too long ago, and has since failed to fewer than ``max_fails`` times."""

    def complaint(self, req: falcon.Request, snapshot: Snapshot, status: HostStatus) -> str | None:
        return None if status.alive else status.reason
