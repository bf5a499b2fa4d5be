"""The values that the HTTP server and the API pass to each other for one request.

The API is a WSGI application, and WSGI carries no metadata of a response. An `Exchange` in the WSGI
environment does; `Application.respond` is the only function that reads it. Under another WSGI
server there is none, and the API then neither waits nor reports metadata.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import falcon

from pgstatus.api.feeds import Feed
from pgstatus.core.selection import Question

KEY = "pg_status.exchange"
"""Key of the WSGI environment."""

OTHER = "other"
"""The endpoint of requests that match no route."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response, and what the server needs to know of it."""

    status: str
    """``200 OK``"""
    headers: Sequence[tuple[str, str]]
    body: bytes
    """Empty in a response to HEAD, whose ``Content-Length`` is that of GET."""
    endpoint: str
    """The route, as in ``/replica``; `OTHER` if there is none."""
    cacheable: bool
    """It depends on the bytes of the request and the snapshot only."""
    fell_back: bool
    """The master is the answer to a question about replicas."""
    turns: Iterator[int] | None
    """The round robin that this answer is from; None if there is one possible answer."""
    choices: int
    """The number of equally good answers."""
    index: int
    """Which of them this is."""
    cluster: str | None = None
    """That the path names."""
    feed: Feed | None = None
    """The body is the beginning of an event stream; the events of this feed follow, the latest one
    first.
    """


@dataclass(frozen=True, slots=True)
class Waiting:
    """No host answers the question yet, or the feed has no new event; that may change within
    ``seconds``.
    """

    subject: Question | Feed
    seconds: float
    cluster: str | None = None
    """That the question is about; None: the only one."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The response takes milliseconds of CPU: to be computed in a thread, if there is one."""


class Exchange:
    """One request; the first three are set by the server, the others by the API."""

    __slots__ = (
        "anonymous", "cacheable", "certificate_missing", "choices", "cluster", "deferred",
        "endpoint", "feed", "fell_back", "index", "may_defer", "once", "turn", "turns",
    )  # fmt: skip

    def __init__(
        self,
        *,
        may_defer: bool = False,
        certificate_missing: bool = False,
        turn: int | None = None,
    ) -> None:
        self.may_defer = may_defer
        """The server accepts `Waiting` and `Slow` instead of a response."""
        self.certificate_missing = certificate_missing
        """The client presented no certificate, although one is requested."""
        self.turn = turn
        """The turn of the round robin that was taken already; None: take the next."""
        self.deferred: Waiting | Slow | None = None
        self.anonymous = False
        """The credentials for other paths are missing: the response contains no names."""
        self.once = False
        """The response to the same request may be another one next time."""
        self.cacheable = False
        self.endpoint = OTHER
        self.cluster: str | None = None
        self.fell_back = False
        self.turns: Iterator[int] | None = None
        self.choices = 1
        self.index = 0
        self.feed: Feed | None = None

    def pick(self, turns: Iterator[int], choices: int) -> int:
        """Which of several equally good answers is given."""
        self.turns, self.choices = turns, choices
        self.index = (next(turns) if self.turn is None else self.turn) % choices
        return self.index

    def defer(self, how: Waiting | Slow) -> None:
        """Interrupt the request, if the server can resume it later."""
        if self.may_defer:
            raise Deferred(how)


class Deferred(Exception):  # noqa: N818  # not an error: the request is resumed later
    """The request is not answered now."""

    def __init__(self, how: Waiting | Slow) -> None:
        super().__init__()
        self.how = how


def exchange_of(req: falcon.Request) -> Exchange:
    """The exchange of a request; one without effect under another server."""
    exchange: Exchange | None = req.env.get(KEY)
    if exchange is None:
        exchange = req.env[KEY] = Exchange()
    return exchange


class Application:
    """The API as a function from a request to a response."""

    def __init__(self, wsgi: Callable[..., Any]) -> None:
        self.wsgi = wsgi

    def respond(self, environ: dict[str, Any], exchange: Exchange) -> Response | Waiting | Slow:
        """The response to the request in ``environ``."""
        environ[KEY] = exchange
        start: list[Any] = []
        # PEP 3333: start_response(status, headers, exc_info=None). Falcon calls it once.
        parts = self.wsgi(environ, lambda *arguments: start.extend(arguments))
        if exchange.deferred is not None:
            return exchange.deferred
        return Response(
            status=start[0],
            headers=start[1],
            body=b"".join(parts),
            endpoint=exchange.endpoint,
            cacheable=exchange.cacheable,
            fell_back=exchange.fell_back,
            turns=exchange.turns,
            choices=exchange.choices,
            index=exchange.index,
            cluster=exchange.cluster,
            feed=exchange.feed,
        )
