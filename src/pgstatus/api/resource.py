"""The common part of all resources: GET, HEAD and OPTIONS, and whether responses are cacheable."""

from collections.abc import Mapping

import falcon

from pgstatus.api.exchange import exchange_of
from pgstatus.api.feeds import Feed
from pgstatus.api.service import Daemon, Refused, Service

METHODS = ("GET", "HEAD", "OPTIONS")


class Resource:
    """A path with a response to GET."""

    from_snapshot = True
    """The response depends on the request and the snapshot only."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def service(self, req: falcon.Request, cluster: str | None) -> Service:
        """The cluster that the path names; without a name, the only one. `Refused`: none."""
        try:
            return self.daemon.service(cluster, req.path)
        except Refused:
            # A reload can add a cluster.
            exchange_of(req).once = True
            raise

    def services(self, req: falcon.Request, cluster: str | None) -> Mapping[str, Service]:
        """The cluster that the path names; without a name, all."""
        if cluster is not None:
            return {cluster: self.service(req, cluster)}
        services = self.daemon.clusters()
        if len(services) != 1:
            exchange_of(req).once = True  # there is no snapshot that contains all of them
        return services

    def stream(self, req: falcon.Request, resp: falcon.Response, feed: Feed) -> None:
        """Respond with the events of the feed, the latest one first."""
        resp.content_type = "text/event-stream"
        # nginx would collect the events otherwise.
        resp.set_header("X-Accel-Buffering", "no")
        exchange = exchange_of(req)
        if exchange.may_defer and req.method == "GET":
            # The server continues with the events.
            exchange.feed = feed
            resp.text = feed.RETRY
        else:
            resp.text = feed.RETRY + feed.event().decode()

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        raise NotImplementedError

    def on_head(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        # Falcon omits the body and keeps Content-Length.
        self.on_get(req, resp, cluster)

    def on_options(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        resp.status = falcon.HTTP_204
        resp.set_header("Allow", ", ".join(METHODS))
