"""Everything asked both ways: gunicorn's stock worker and ours answer with the same bytes."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from pgstatus.core.snapshot import Snapshot
from tests.support.serving import Serving, StockServing
from tests.support.world import World, master, refused, replica

WHOLE = replace(
    World(hosts=4).see_all(a=master(0), b=replica(0), c=replica(0), d=refused(0)).snapshot,
    stale_after=float("inf"),
)
SPLIT = "two hosts say they are the master: a, b"
SNAPSHOTS = {
    "whole": WHOLE,
    "not ready": Snapshot(WHOLE.hosts),
    "too old": replace(WHOLE, stale_after=0.0),
    "without a master": replace(
        WHOLE, hosts=tuple(replace(h, master=False, alive=False) for h in WHOLE.hosts)
    ),
    "split brain": replace(
        WHOLE,
        hosts=tuple(replace(h, master=False, alive=False) for h in WHOLE.hosts),
        split_brain=True,
        no_master=SPLIT,
    ),
}

PATHS = [
    "/master",
    "/replica",
    "/sync_by_time",
    "/sync_by_bytes",
    "/sync_by_time_or_bytes",
    "/sync_by_time_and_bytes",
    "/most_sync_by_bytes",
    "/hosts",
    "/status?host=b",
    "/status?host=nobody",
    "/status",
    "/replicas_info",
    "/is_master?host=a",
    "/is_replica?host=a",
    "/is_replica?host=b&lag_ms=5",
    "/is_alive?host=d",
    "/is_alive",
    "/explain/replica?lag_ms=5",
    "/explain",
    "/version",
    "/live",
    "/ready",
    "/health",
    "/",
    "/nothing?here",
    "/replica/",
    "/master?format=hostport",
    "/master?format=uri",
    "/master?format=wrong",
    "/replica?lag_ms=5",
    "/replica?lag_ms=60000&lag_bytes=0",
    "/replica?lag_ms=-1",
    "/replica?lag_bytes=99999999999999999999",
    "/sync_by_time?lag_ms=0",
    "/replica?min_lsn=0/1",
    "/replica?min_lsn=1/2/3",
    "/replica?min%5flsn=0/1",
    "/replica?lag_ms=1&lag_ms=2",
    "http://elsewhere/master",
    "/%6daster",
]
ACCEPTS = [None, "application/json", "text/html, application/json;q=0.9, */*;q=0.1"]


@pytest.fixture(params=SNAPSHOTS)
def both(request: pytest.FixtureRequest) -> Iterator[tuple[StockServing, Serving]]:
    with (
        StockServing(SNAPSHOTS[request.param]) as stock,
        Serving(SNAPSHOTS[request.param]) as ours,
    ):
        yield stock, ours


def requests() -> Iterator[bytes]:
    for path, accept, method in product(PATHS, ACCEPTS, ("GET", "HEAD")):
        lines = [f"{method} {path} HTTP/1.1", "Host: pg-status:8000"]
        if accept is not None:
            lines.append(f"Accept: {accept}")
        yield "\r\n".join([*lines, "", ""]).encode()
    for path, method in product(PATHS[:3], ("OPTIONS", "POST", "DELETE", "PATCH")):
        yield f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_kept_connections(both: tuple[StockServing, Serving]) -> None:
    """Five times, so that each answer is both made and replayed, and turns go round."""
    stock, ours = both
    made = 0
    with stock.connect() as theirs, ours.connect() as mine:
        for request in requests():
            head = request.startswith(b"HEAD")
            for _ in range(5):
                theirs.send(request)
                mine.send(request)
                made += 1
                assert mine.answer(head=head) == theirs.answer(head=head), request
    assert ours.app_calls < made / 2


@pytest.mark.parametrize(
    "ending",
    [
        b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b" HTTP/1.1\r\nHost: x\r\nConnection: Close\r\nUser-Agent: y\r\n\r\n",
        b" HTTP/1.0\r\n\r\n",
        b" HTTP/1.0\r\nHost: x\r\n\r\n",
    ],
)
def test_connections_that_end(both: tuple[StockServing, Serving], ending: bytes) -> None:
    stock, ours = both
    for path in PATHS:
        for _ in range(3):
            answers = []
            for server in (stock, ours):
                with server.connect() as client:
                    client.send(b"GET " + path.encode() + ending)
                    answers.append(client.rest())
            assert answers[0] == answers[1], path


def test_http_1_0_kept_alive(both: tuple[StockServing, Serving]) -> None:
    stock, ours = both
    with stock.connect() as theirs, ours.connect() as mine:
        for _ in range(3):
            for client in (theirs, mine):
                client.send(b"GET /replica HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert mine.answer() == theirs.answer()


ODD = {
    "no request": b"\r\n\r\n",
    "one empty line before": b"\r\nGET /master HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "words": b"hello\r\n\r\n",
    "bare LF": b"GET /master HTTP/1.1\nHost: x\n\n",
    "bare LF in the head": b"GET /master HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "lower case method": b"get /master HTTP/1.1\r\n\r\n",
    "HTTP/2": b"GET /master HTTP/2.0\r\n\r\n",
    "HTTP/9.9": b"GET /master HTTP/9.9\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NUL in the path": b"GET /mas\0ter HTTP/1.1\r\n\r\n",
    "NUL in a header": b"GET /master HTTP/1.1\r\nA: b\0c\r\n\r\n",
    "NUL behind": b"GET /master HTTP/1.1\r\nConnection: close\r\n\r\n\0\0\0\0",
    "bytes of no character set": b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    "a space in the path": b"GET /mas ter HTTP/1.1\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\n\r\n",
    "header without colon": b"GET /master HTTP/1.1\r\nwhat\r\n\r\n",
    "folded header": b"GET /master HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "underscore": b"GET /master HTTP/1.1\r\nmy_header: b\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /master HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    "a long header": b"GET /master HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
    "many headers": b"GET /master HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "a long head that is allowed": b"GET /master HTTP/1.1\r\nConnection: close\r\n"
    + b"A: %s\r\n" % (b"a" * 4000) * 5
    + b"\r\n",
    "two lengths": b"GET /master HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a negative length": b"GET /master HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"GET /master HTTP/1.1\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"GET /master HTTP/1.1\r\nTransfer-Encoding: rot13\r\n\r\n",
    "expects the impossible": b"GET /master HTTP/1.1\r\nExpect: miracles\r\n\r\n",
    "CONNECT": b"CONNECT pg1:5432 HTTP/1.1\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n\r\n",
    "a body": b"POST /master HTTP/1.1\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "a body on GET": b"GET /master HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n",
    "a chunked body": b"GET /master HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\nGET /version HTTP/1.1\r\nConnection: close\r\n\r\n",
    "expects a body's welcome": b"POST /master HTTP/1.1\r\nExpect: 100-continue\r\n"
    b"Content-Length: 5\r\nConnection: close\r\n\r\nhello",
    "wants another protocol": b"GET /master HTTP/1.1\r\nUpgrade: h2c\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n",
    "an end within the head": b"GET /master HTTP/1.1\r\nHos",
    "an end after a request": b"GET /master HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
def test_odd_requests(sent: bytes) -> None:
    answers = []
    for server_class in (StockServing, Serving):
        with server_class(WHOLE) as server:
            for _ in range(2):
                with server.connect() as client:
                    client.send(sent)
                    client.sock.shutdown(1)
                    answers.append(client.rest())
    theirs, theirs_again, *ours = map(less_its_words, answers)
    assert theirs == theirs_again
    assert ours == [theirs, theirs]
    assert b"<html>" not in answers[2] + answers[3]


def less_its_words(answer: bytes) -> bytes:
    """The answer, and of a refusal to read the request the status alone: gunicorn's is HTML."""
    refusal = rb"(HTTP/1.1 [45]\d\d) [^\r]*\r\nConnection: close\r\nContent-Type: .*"
    return re.sub(refusal, rb"\1", answer, flags=re.DOTALL)
