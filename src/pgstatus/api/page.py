"""The status page, ``/``, and its data, ``/overview``."""

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import falcon

from pgstatus import clock
from pgstatus.api import params
from pgstatus.api.overview import overview, overview_of_all
from pgstatus.api.resource import Resource
from pgstatus.api.service import Daemon


class Page(Resource):
    """One file that loads only ``/overview``; the content security policy permits nothing else."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon)
        self._text = Path(__file__).with_name("page.html").read_text("utf-8")
        self._policy = _content_security_policy(self._text)

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        resp.content_type = "text/html; charset=utf-8"
        resp.text = self._text
        resp.set_header("Content-Security-Policy", self._policy)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "no-referrer")


class Overview(Resource):
    """The data of the page; also available while the other endpoints return 503."""

    from_snapshot = False  # ages and history

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        services = self.services(req, cluster)
        # One cluster and the file of another that cannot be used are several clusters, too.
        names = services.keys() | (self.daemon.rejected().keys() if cluster is None else set())
        if len(names) != 1:
            params.send_json(resp, overview_of_all(self.daemon, clock.wall()))
            return
        for name, service in services.items():
            # No number on the page exceeds the peak of its chart.
            service.history.sample(service.read(), service.now())
            params.send_json(resp, overview(self.daemon, service, clock.wall(), name))


def _content_security_policy(page: str) -> str:
    """Permits only the style and script of the page itself. Source: W3C CSP Level 3."""
    style, script = (
        b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for tag in ("style", "script")
        for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
