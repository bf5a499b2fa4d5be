"""What every resource does alike: GET, HEAD and OPTIONS, and saying whether it may be replayed."""

import falcon

from pgstatus.api.service import Service

METHODS = ("GET", "HEAD", "OPTIONS")


class Resource:
    """A path that is asked with GET."""

    from_snapshot = True
    """Its answers depend on nothing but the request and the snapshot."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise NotImplementedError

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        # Falcon leaves the body out and keeps its length.
        self.on_get(req, resp)

    def on_options(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.status = falcon.HTTP_204
        resp.set_header("Allow", ", ".join(METHODS))
