"""Access control: probes are open; everything else requires a token or a client certificate if the
configuration says so.

Sources: RFC 6750 (bearer tokens), RFC 7617 (Basic, for which a browser prompts).
"""

import hmac
import re
from base64 import b64decode
from collections.abc import Sequence

import falcon

from pgstatus.api.exchange import exchange_of
from pgstatus.api.service import Daemon, Refused

_OPEN = re.compile(r"(/c/[^/]+)?/(live|ready|health)")
# Basic is first because Chromium evaluates only the first challenge of a header.
_CHALLENGES = 'Basic realm="pg-status", charset="UTF-8", Bearer realm="pg-status"'
_INVALID = ', error="invalid_token"'


class Access:
    """Falcon middleware. Without tokens none is required."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        refused, challenges = self._refusal(req)
        if refused is None:
            return
        if _OPEN.fullmatch(req.path):
            exchange_of(req).anonymous = True
            return
        if challenges is not None:
            resp.set_header("WWW-Authenticate", challenges)
        raise refused

    def _refusal(self, req: falcon.Request) -> tuple[Refused | None, str | None]:
        """Why the request has no access to closed paths, and the value of WWW-Authenticate."""
        if exchange_of(req).certificate_missing:
            return Refused(falcon.HTTP_403, "client certificate required"), None
        tokens = self._daemon.tokens()
        if not tokens:
            return None, None
        token = _token(req.auth or "")
        if not token:
            text = "token required: 'Authorization: Bearer TOKEN'"
            return Refused(falcon.HTTP_401, text), _CHALLENGES
        if not _is_valid(token, tokens):
            return Refused(falcon.HTTP_401, "invalid token"), _CHALLENGES + _INVALID
        return None, None


def _is_valid(token: bytes, tokens: Sequence[bytes]) -> bool:
    # All tokens are compared, so that the time does not reveal which one was similar.
    return sum(hmac.compare_digest(token, valid) for valid in tokens) > 0


def _token(authorization: str) -> bytes:
    """The token of an ``Authorization`` header; empty if there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        # WSGI passes the bytes of a header as latin-1.
        return rest.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            return b64decode(rest.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""
