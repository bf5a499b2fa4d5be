"""The Falcon application: the routes, and what all responses have in common.

Every response is made from the latest snapshot; no request queries PostgreSQL. Source of the rules:
``docs/http-api.md``; RFC 9110 for methods and ``Accept``.
"""

import falcon

from pgstatus.api import evidence, hosts, metrics, page, params, probes, questions, watch
from pgstatus.api.access import Access
from pgstatus.api.exchange import OTHER, Deferred, exchange_of
from pgstatus.api.resource import METHODS
from pgstatus.api.service import Refused, Service
from pgstatus.core.selection import Kind


def create_app(service: Service) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application."""
    app = falcon.App()
    app.add_middleware(_Common())
    app.add_middleware(Access(service.tokens))
    # A response without a body has no media type.
    app.resp_options.default_media_type = None  # type: ignore[assignment]
    app.set_error_serializer(lambda req, resp, exception: None)
    app.add_error_handler(Refused, _refuse)
    app.add_error_handler(Deferred, _defer)
    for kind in Kind:
        app.add_route(f"/{kind}", questions.Selection(service, kind))
        app.add_route(f"/explain/{kind}", questions.Explanation(service, kind))
        app.add_route(f"/watch/{kind}", watch.Watch(service, kind))
    app.add_route("/explain", questions.ExplanationIndex(service))
    app.add_route("/watch", watch.Watch(service))
    app.add_route("/evidence", evidence.EvidenceStream(service))
    app.add_route("/evidence/positions", evidence.EvidencePositions(service))
    app.add_route("/hosts", hosts.Hosts(service))
    app.add_route("/status", hosts.Status(service))
    app.add_route("/replicas_info", hosts.ReplicasInfo(service))
    app.add_route("/version", probes.Version(service))
    app.add_route("/live", probes.Live(service))
    app.add_route("/ready", probes.Ready(service))
    app.add_route("/health", probes.Health(service))
    app.add_route("/is_master", probes.IsMaster(service))
    app.add_route("/is_replica", probes.IsReplica(service))
    app.add_route("/is_alive", probes.IsAlive(service))
    app.add_route("/metrics", metrics.Metrics(service))
    app.add_route("/overview", page.Overview(service))
    app.add_route("/", page.Page(service))
    return app


class _Common:
    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: object
    ) -> None:
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
        exchange.endpoint = req.uri_template or OTHER


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
