"""The common part of all resources: GET, HEAD and OPTIONS, and whether responses are cacheable."""

import falcon

from pgstatus.api.service import Service

METHODS = ("GET", "HEAD", "OPTIONS")


class Resource:
    """A path with a response to GET."""

    from_snapshot = True
    """The response depends on the request and the snapshot only."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise NotImplementedError

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        # Falcon omits the body and keeps Content-Length.
        self.on_get(req, resp)

    def on_options(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = falcon.HTTP_204
        resp.set_header("Allow", ", ".join(METHODS))
