"""Questions: ``/master``, ``/replica``, ``/sync_by_*``, ``/most_sync_by_bytes``; ``/explain/…``."""

import falcon

from pgstatus.api import params
from pgstatus.api.exchange import Exchange, Waiting, exchange_of
from pgstatus.api.resource import Resource
from pgstatus.api.service import Daemon, Refused, Service
from pgstatus.core.explain import explain
from pgstatus.core.render import explanation, explanation_text, host_text, selection
from pgstatus.core.selection import (
    Choice,
    Kind,
    Question,
    choose,
    is_reached,
    may_be_reached,
    why_none,
)
from pgstatus.core.snapshot import HostStatus, Snapshot


class Selection(Resource):
    """One kind of question."""

    def __init__(self, daemon: Daemon, kind: Kind) -> None:
        super().__init__(daemon)
        self._kind = kind

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        service = self.service(req, cluster)
        snapshot = service.snapshot()
        form = params.host_format(req)
        question = params.question(req, self._kind, service.thresholds)
        wait = 0.0
        if self._kind is not Kind.MASTER:
            wait = params.wait(req, service.min_lsn_wait)
        exchange = exchange_of(req)
        if (
            question.min_lsn is not None
            and wait
            and not is_reached(snapshot, question)
            and may_be_reached(snapshot)
        ):
            exchange.defer(Waiting(question, wait, cluster))
        choice = _choose(service, snapshot, question, exchange)
        if not choice.hosts and snapshot.split_brain:
            reason = snapshot.no_master or ""
            raise Refused(falcon.HTTP_503, reason, split_brain=snapshot.claims)
        chosen: HostStatus | None = None
        if choice.hosts:
            turns = service.turns.of(question)
            chosen = choice.hosts[exchange.pick(turns, len(choice.hosts))]
        if choice.stale:
            resp.set_header("X-Pg-Status-Stale", "1")
        resp.status = falcon.HTTP_200 if chosen else falcon.HTTP_404
        if params.wants_json(req):
            params.send_json(
                resp, selection(chosen, why_none(snapshot, question), stale=choice.stale)
            )
        elif chosen:
            params.send_text(resp, host_text(chosen, form))


class Explanation(Resource):
    """For each host, why it is or is not the answer to one kind of question."""

    def __init__(self, daemon: Daemon, kind: Kind) -> None:
        super().__init__(daemon)
        self._kind = kind

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        service = self.service(req, cluster)
        snapshot = service.snapshot()
        question = params.question(req, self._kind, service.thresholds)
        verdicts = explain(snapshot, question, service.place)
        if params.wants_json(req):
            params.send_json(resp, explanation(verdicts))
        else:
            params.send_text(resp, explanation_text(verdicts))


class ExplanationIndex(Resource):
    """``/explain`` alone."""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, cluster: str | None = None
    ) -> None:
        kinds = ", ".join(Kind)
        raise Refused(
            falcon.HTTP_400,
            f"Name the question to explain, as in /explain/replica?lag_ms=50; one of {kinds}",
        )


def _choose(service: Service, snapshot: Snapshot, question: Question, exchange: Exchange) -> Choice:
    """The choice; the master answers questions about replicas at a limited rate."""
    choice = choose(snapshot, question, service.place)
    bucket = service.fallback_bucket
    if choice.fell_back and bucket is not None:
        exchange.once = True
        if not bucket.take(service.now()):
            choice = choose(snapshot, question, service.place, use_master=False)
    exchange.fell_back = choice.fell_back
    return choice
