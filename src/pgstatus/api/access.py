"""Who may ask: everybody for the probes; for all else whoever has a token, or a certificate, where
the configuration asks for one.

Sources: RFC 6750 (bearer tokens), RFC 7617 (Basic, which a browser can ask a person for).
"""

import hmac
from base64 import b64decode
from collections.abc import Sequence

import falcon

from pgstatus.api.exchange import exchange_of
from pgstatus.api.service import Refused

_OPEN = frozenset(("/live", "/ready", "/health"))
# Basic is first because Chromium looks at nothing but the first challenge of a header.
_CHALLENGES = 'Basic realm="pg-status", charset="UTF-8", Bearer realm="pg-status"'


class Access:
    """Falcon middleware; without ``tokens`` none is needed."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if req.path in _OPEN:
            return
        if exchange_of(req).certificate_missing:
            raise Refused(falcon.HTTP_403, "a client certificate is needed")
        if self._tokens and not self._has_token(req):
            resp.set_header("WWW-Authenticate", _CHALLENGES)
            raise Refused(falcon.HTTP_401, "a token is needed, as in 'Authorization: Bearer TOKEN'")

    def _has_token(self, req: falcon.Request) -> bool:
        presented = _presented(req.auth or "")
        # All of them, so that the time does not tell which one was nearly right.
        return sum(hmac.compare_digest(presented, token) for token in self._tokens) > 0


def _presented(authorization: str) -> bytes:
    """The token of an ``Authorization`` header; empty where there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        # WSGI hands the bytes of a header over as latin-1.
        return rest.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            return b64decode(rest.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""
