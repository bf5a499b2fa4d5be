"""The HTTP interface: paths, parameters and representations, as a Falcon WSGI app.

Every answer is made from the snapshot that `create_app` is given a way to read; no request waits
for PostgreSQL. Source of the rules: ``docs/http-api.md``; RFC 9110 for methods and ``Accept``.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import falcon

from pgstatus import __version__
from pgstatus.answers import HostFormat, host_entry, host_status, host_text, selection
from pgstatus.lsn import parse_position
from pgstatus.parking import Parking
from pgstatus.replay import NOTE, Note
from pgstatus.selection import (
    Kind,
    Place,
    Question,
    Thresholds,
    Turns,
    choose,
    is_reached,
    may_be_reached,
)
from pgstatus.snapshot import HostStatus, Role, Snapshot

T = TypeVar("T")

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
# A request that waits holds a thread.
_MAX_WAIT_MS = 10_000
_METHODS = "GET, HEAD, OPTIONS"


class _Refused(Exception):  # noqa: N818  # an answer, not a defect
    """The request ends here, with this status and ``{"error_text": …}``."""

    def __init__(self, status: str, error_text: str) -> None:
        super().__init__(error_text)
        self.status = status
        self.error_text = error_text


@dataclass(kw_only=True)
class Service:
    """What the resources share."""

    read: Callable[[], Snapshot]
    """The newest snapshot."""
    now: Callable[[], float]
    """The moment, on the snapshot's clock."""
    thresholds: Thresholds
    place: Place
    parking: Parking
    min_lsn_wait: float
    """Seconds that a ``min_lsn`` request waits which does not say how long."""
    turns: Turns = field(default_factory=Turns)

    def is_ready(self) -> bool:
        return self.read().ready

    def snapshot(self) -> Snapshot:
        """The snapshot to answer from; `_Refused` while there is none that may be served."""
        snapshot = self.read()
        if not snapshot.ready:
            raise _Refused(falcon.HTTP_503, "pg_monitor is not ready")
        if self.now() > snapshot.stale_after:
            raise _Refused(falcon.HTTP_503, "what is known of the hosts is too old to be served")
        return snapshot


class _Resource:
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
        resp.set_header("Allow", _METHODS)


class _Selection(_Resource):
    """``/master``, ``/replica``, ``/sync_by_*``, ``/most_sync_by_bytes``."""

    def __init__(self, service: Service, kind: Kind) -> None:
        super().__init__(service)
        self._kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        form = _host_format(req)
        question = self._question(req)
        wait = 0.0 if question.min_lsn is None else _wait(req, self.service.min_lsn_wait)
        snapshot = self.service.snapshot()
        if wait and not is_reached(snapshot, question) and may_be_reached(snapshot):
            _note(req).wait()
            self.service.parking.wait(question, wait)
            snapshot = self.service.snapshot()
        equals = choose(snapshot, question, self.service.place)
        if not equals and snapshot.split_brain:
            raise _Refused(falcon.HTTP_503, snapshot.no_master or "")
        chosen: HostStatus | None = None
        if equals:
            turn = self.service.turns.of(question)
            chosen = equals[_note(req).pick(turn, len(equals))]
        resp.status = falcon.HTTP_200 if chosen else falcon.HTTP_404
        if _wants_json(req):
            _send_json(resp, selection(chosen, snapshot))
        elif chosen:
            resp.content_type = _TEXT
            resp.text = host_text(chosen, form)

    def _question(self, req: falcon.Request) -> Question:
        if self._kind is Kind.MASTER:
            return self.service.thresholds.question(self._kind)
        position = _parameter(req, "min_lsn", parse_position)
        timeline, min_lsn = position or (None, None)
        return self.service.thresholds.question(
            self._kind,
            _parameter(req, "lag_ms", _unsigned),
            _parameter(req, "lag_bytes", _unsigned),
            min_lsn,
            timeline,
        )


class _Hosts(_Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _send_json(resp, [host_entry(status) for status in self.service.snapshot().hosts])


class _Status(_Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        name = req.get_param("host")
        if name is None:
            raise _Refused(falcon.HTTP_400, "Get parameter 'host' wasn't passed")
        hosts = self.service.snapshot().hosts
        status = next((s for s in hosts if name in {s.host.name, str(s.host)}), None)
        if status is None:
            resp.status = falcon.HTTP_404
        else:
            _send_json(resp, host_status(status))


class _ReplicasInfo(_Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        hosts = self.service.snapshot().hosts
        _send_json(resp, [{"host": s.host.name} for s in hosts if _is_live_replica(s)])


class _Version(_Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _send_text(resp, __version__)


class _Live(_Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _send_text(resp, "OK")


class _Ready(_Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self.service.is_ready():
            raise _Refused(falcon.HTTP_503, "pg_monitor is not ready")
        _send_text(resp, "OK")


class _Health(_Resource):
    """Should this instance be asked at all?"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self.service.snapshot()
        if not snapshot.master and not any(_is_live_replica(s) for s in snapshot.hosts):
            raise _Refused(falcon.HTTP_503, "neither a master nor a live replica is known")
        _send_text(resp, "OK")


def create_app(service: Service) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI app."""
    app = falcon.App(middleware=[_EveryAnswer()])
    # An answer without a body has no type either.
    app.resp_options.default_media_type = None  # type: ignore[assignment]
    app.set_error_serializer(lambda req, resp, exception: None)
    app.add_error_handler(_Refused, _refuse)
    for kind in Kind:
        app.add_route(f"/{kind}", _Selection(service, kind))
    app.add_route("/hosts", _Hosts(service))
    app.add_route("/status", _Status(service))
    app.add_route("/replicas_info", _ReplicasInfo(service))
    app.add_route("/version", _Version(service))
    app.add_route("/live", _Live(service))
    app.add_route("/ready", _Ready(service))
    app.add_route("/health", _Health(service))
    return app


class _EveryAnswer:
    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        resp.set_header("Cache-Control", "no-store")
        known = resource is None or getattr(resource, "from_snapshot", False)
        _note(req).replayable = known and resp.status_code != 500


def _refuse(
    req: falcon.Request,
    resp: falcon.Response,
    refused: _Refused,
    params: object,
) -> None:
    resp.status = refused.status
    _send_json(resp, {"error_text": refused.error_text})


def _send_json(resp: falcon.Response, value: object) -> None:
    resp.content_type = _JSON
    resp.text = json.dumps(value, ensure_ascii=False)


def _send_text(resp: falcon.Response, text: str) -> None:
    resp.content_type = _TEXT
    resp.text = text


def _note(req: falcon.Request) -> Note:
    note: Note = req.env.setdefault(NOTE, Note())
    return note


def _is_live_replica(status: HostStatus) -> bool:
    return status.alive and status.role is Role.REPLICA and not status.excluded


def _wants_json(req: falcon.Request) -> bool:
    """Text is the default; of two types that are equally welcome the one that was named wins."""
    accept = req.accept.lower()  # falcon compares types letter by letter
    named = "application/json" in accept and "text/plain" not in accept
    choices = (_JSON, "text/plain") if named else ("text/plain", _JSON)
    try:
        return falcon.mediatypes.best_match(choices, accept) == _JSON
    except ValueError:
        return False


def _host_format(req: falcon.Request) -> HostFormat:
    try:
        return HostFormat(req.get_param("format", default=HostFormat.HOST))
    except ValueError:
        raise _Refused(falcon.HTTP_400, "Invalid format") from None


def _wait(req: falcon.Request, default: float) -> float:
    """How long the request may wait for a replica, seconds."""
    wait_ms = _parameter(req, "wait_ms", _unsigned)
    if wait_ms is not None and wait_ms > _MAX_WAIT_MS:
        raise _Refused(falcon.HTTP_400, "Invalid wait_ms")
    return default if wait_ms is None else wait_ms / 1000


def _parameter(req: falcon.Request, name: str, parse: Callable[[str], T]) -> T | None:
    values = req.get_param_as_list(name)
    if values is None:
        return None
    try:
        (value,) = values
        return parse(value)
    except ValueError:
        raise _Refused(falcon.HTTP_400, f"Invalid {name}") from None


def _unsigned(text: str) -> int:
    """A decimal number of 64 bits, without sign. ValueError for anything else."""
    # int() alone would take "+1", " 1", "1_000" and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) >= 2**64:
        raise ValueError("expected an unsigned 64-bit number")
    return int(text)
