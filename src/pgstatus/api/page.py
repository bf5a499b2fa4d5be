"""The status page, ``/``, and its data, ``/overview``."""

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import falcon

from pgstatus import clock
from pgstatus.api import params
from pgstatus.api.overview import overview
from pgstatus.api.resource import Resource
from pgstatus.api.service import Service


class Page(Resource):
    """One file that loads only ``/overview``; the content security policy permits nothing else."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._text = Path(__file__).with_name("page.html").read_text("utf-8")
        self._policy = _content_security_policy(self._text)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/html; charset=utf-8"
        resp.text = self._text
        resp.set_header("Content-Security-Policy", self._policy)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "no-referrer")


class Overview(Resource):
    """The data of the page; also available while the other endpoints return 503."""

    from_snapshot = False  # ages and history

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        service = self.service
        snapshot, now = service.read(), service.now()
        # No number on the page exceeds the peak of its chart.
        service.history.sample(snapshot, now)
        params.send_json(
            resp,
            overview(service, snapshot, now=now, at=clock.wall()),
        )


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
