"""The Falcon application: the routes, and what all responses have in common.

Every response is made from the latest snapshot; no request queries PostgreSQL. Source of the rules:
``docs/http-api.md``; RFC 9110 for methods and ``Accept``.
"""

from collections.abc import Mapping

import falcon

from pgstatus.api import clusters, evidence, hosts, metrics, page, params, probes, questions, watch
from pgstatus.api.access import Access
from pgstatus.api.exchange import OTHER, Deferred, exchange_of
from pgstatus.api.resource import METHODS, Resource
from pgstatus.api.service import Daemon, Refused
from pgstatus.core.selection import Kind

CLUSTER = "/c/{cluster}"
"""The prefix of all paths for one of several clusters."""


def create_app(daemon: Daemon) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application."""
    app = falcon.App()
    app.add_middleware(_Common(daemon))
    app.add_middleware(Access(daemon))
    # A response without a body has no media type.
    app.resp_options.default_media_type = None  # type: ignore[assignment]
    app.set_error_serializer(lambda req, resp, exception: None)
    app.add_error_handler(Refused, _refuse)
    app.add_error_handler(Deferred, _defer)
    app.add_route("/clusters", clusters.Clusters(daemon))
    app.add_route(CLUSTER, clusters.WithoutSlash(daemon))
    for path, resource in _resources(daemon).items():
        app.add_route(path, resource)
        app.add_route(CLUSTER + path, resource)
    return app


def _resources(daemon: Daemon) -> Mapping[str, Resource]:
    """The resources of one cluster. Some of them cover all clusters without its name."""
    found: dict[str, Resource] = {}
    for kind in Kind:
        found[f"/{kind}"] = questions.Selection(daemon, kind)
        found[f"/explain/{kind}"] = questions.Explanation(daemon, kind)
        found[f"/watch/{kind}"] = watch.Watch(daemon, kind)
    return {
        **found,
        "/explain": questions.ExplanationIndex(daemon),
        "/watch": watch.Watch(daemon),
        "/evidence": evidence.EvidenceStream(daemon),
        "/evidence/positions": evidence.EvidencePositions(daemon),
        "/hosts": hosts.Hosts(daemon),
        "/status": hosts.Status(daemon),
        "/replicas_info": hosts.ReplicasInfo(daemon),
        "/version": probes.Version(daemon),
        "/live": probes.Live(daemon),
        "/ready": probes.Ready(daemon),
        "/health": probes.Health(daemon),
        "/is_master": probes.IsMaster(daemon),
        "/is_replica": probes.IsReplica(daemon),
        "/is_alive": probes.IsAlive(daemon),
        "/metrics": metrics.Metrics(daemon),
        "/overview": page.Overview(daemon),
        "/": page.Page(daemon),
    }


class _Common:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,
        params: Mapping[str, str],
    ) -> None:
        exchange, cluster = exchange_of(req), params.get("cluster")
        if cluster is not None:
            exchange.once = True  # unless the cluster exists: a reload can add it
            self._daemon.service(cluster, req.path)
            exchange.once = False
            exchange.cluster = cluster
        # Falcon's response to a method that it does not know is 400.
        if req.method not in METHODS:
            raise falcon.HTTPMethodNotAllowed(METHODS)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        resp.set_header("Cache-Control", "no-store")
        exchange = exchange_of(req)
        from_snapshot = resource is None or getattr(resource, "from_snapshot", False)
        exchange.cacheable = from_snapshot and not exchange.once and resp.status_code != 500
        exchange.endpoint = (req.uri_template or OTHER).removeprefix(CLUSTER) or OTHER


def _refuse(
    req: falcon.Request,
    resp: falcon.Response,
    refused: Refused,
    route: object,
) -> None:
    resp.status = refused.status
    params.send_json(resp, {"error_text": refused.error_text, **refused.more})


def _defer(req: falcon.Request, resp: falcon.Response, deferred: Deferred, route: object) -> None:
    exchange_of(req).deferred = deferred.how
