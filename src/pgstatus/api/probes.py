"""Health as a status code: of this instance (``/live``, ``/ready``, ``/health``, ``/version``), and
of one host for load balancers (``/is_master``, ``/is_replica``, ``/is_alive``).
"""

from collections.abc import Mapping

import falcon

from pgstatus import __version__
from pgstatus.api import params
from pgstatus.api.exchange import exchange_of
from pgstatus.api.resource import Resource
from pgstatus.api.service import Refused, Service, listed
from pgstatus.core.selection import Kind, refusal, why_not_master
from pgstatus.core.snapshot import HostStatus, Snapshot
from pgstatus.core.view import without_sources


class Version(Resource):
    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        params.send_text(resp, __version__)


class Live(Resource):
    from_snapshot = False  # because of the header

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        # `pg-status reload` waits until it changes.
        resp.set_header("X-Pg-Status-Reloads", self.daemon.reloads())
        params.send_text(resp, "OK")


class Ready(Resource):
    """Every host of the cluster, or of all clusters, was checked."""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        services = self.services(req, cluster)
        found = {name: service.read() for name, service in services.items()}
        waiting = {name: snapshot for name, snapshot in found.items() if not snapshot.ready}
        if waiting or not services:
            raise _not_ready(req, waiting, several=len(found) != 1)
        params.send_text(resp, "OK")


class Health(Resource):
    """The instance has an answer to at least one question."""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        services = self.services(req, cluster)
        if len(services) == 1:
            for name, service in services.items():
                if not (snapshot := service.read()).ready:
                    raise _not_ready(req, {name: snapshot}, several=False)
                service.snapshot()  # which has the reason
        if not any(_has_answer(service) for service in services.values()):
            raise Refused(falcon.HTTP_503, "neither a master nor a live replica is known")
        params.send_text(resp, "OK")


def _not_ready(req: falcon.Request, waiting: Mapping[str, Snapshot], *, several: bool) -> Refused:
    """The response while these clusters, or ``several`` and none of them, are not ready.

    Names and addresses are not part of it if the request has no credentials and requires them for
    other paths.
    """
    reasons = {name: str(snapshot.no_master) for name, snapshot in waiting.items()}
    if not waiting:
        text = "no cluster is monitored"
    elif exchange_of(req).anonymous:
        text = "; ".join(
            dict.fromkeys(
                without_sources(reason, waiting[name].sources) for name, reason in reasons.items()
            )
        )
    elif several:
        text = listed(f"{name}: {reason}" for name, reason in reasons.items())
    else:
        (text,) = reasons.values()
    return Refused(falcon.HTTP_503, f"not ready: {text}")


def _has_answer(service: Service) -> bool:
    snapshot = service.read()
    if snapshot.unusable(service.now()) is not None:
        return False
    return snapshot.master is not None or any(s.is_live_replica for s in snapshot.hosts)


class _HostCheck(Resource):
    """200 if the condition holds for a host; 503 with the reason if not."""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        service = self.service(req, cluster)
        snapshot = service.snapshot()
        status = params.named(params.host_name(req), snapshot)
        if status is None:
            resp.status = falcon.HTTP_404
            return
        reason = self.objection(req, service, snapshot, status)
        if reason is not None:
            raise Refused(falcon.HTTP_503, f"{status.host}: {reason}")
        params.send_text(resp, "OK")

    def on_options(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        # The default method of HAProxy's `option httpchk`.
        self.on_get(req, resp, cluster)

    def objection(
        self, req: falcon.Request, service: Service, snapshot: Snapshot, status: HostStatus
    ) -> str | None:
        raise NotImplementedError


class IsMaster(_HostCheck):
    """The host is the answer of ``/master``."""

    def objection(
        self, req: falcon.Request, service: Service, snapshot: Snapshot, status: HostStatus
    ) -> str | None:
        return None if status.master else why_not_master(status)


class IsReplica(_HostCheck):
    """The host may be the answer of ``/replica`` with the same limits."""

    def objection(
        self, req: falcon.Request, service: Service, snapshot: Snapshot, status: HostStatus
    ) -> str | None:
        question = params.question(req, Kind.REPLICA, service.thresholds)
        return refusal(snapshot, status, question)


class IsAlive(_HostCheck):
    """The host responded recently, and fewer than ``max_fails`` checks have failed since."""

    def objection(
        self, req: falcon.Request, service: Service, snapshot: Snapshot, status: HostStatus
    ) -> str | None:
        return None if status.alive else status.reason
