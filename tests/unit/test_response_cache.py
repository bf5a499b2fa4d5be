"""The response cache: what is kept, for how long, and the round robin between equal hosts."""

import time
from collections import Counter
from dataclasses import replace
from email.utils import parsedate_to_datetime
from itertools import count

from pgstatus import clock
from pgstatus.api.exchange import Exchange, Response
from pgstatus.core.snapshot import Snapshot
from pgstatus.http.cache import ResponseCaches
from pgstatus.http.reply import Reply
from pgstatus.telemetry.counters import Tally

REQUEST = b"GET /master HTTP/1.1\r\n\r\n"


def response(body: str, exchange: Exchange | None = None, *, cacheable: bool = True) -> Response:
    exchange = exchange or Exchange()
    return Response(
        status="200 OK",
        headers=[],
        body=body.encode(),
        endpoint="/master",
        cacheable=cacheable,
        fell_back=False,
        turns=exchange.turns,
        choices=exchange.choices,
        index=exchange.index,
    )


def reply(body: str) -> Reply:
    before, after = b"HTTP/1.1 200 OK\r\nDate: ", b"\r\n\r\n" + body.encode()
    return Reply(before, after, Tally(), closes=False)


class Keeper:
    """A cache over a snapshot that can be replaced."""

    def __init__(self, stale_after: float = float("inf")) -> None:
        self.snapshot = Snapshot((), ready=True, stale_after=stale_after)
        self.cache = ResponseCaches(lambda cluster=None: self.snapshot)

    def keep(
        self,
        request: bytes = REQUEST,
        exchange: Exchange | None = None,
        body: str = "pg1",
        *,
        cacheable: bool = True,
    ) -> None:
        self.cache.store(request, response(body, exchange, cacheable=cacheable), reply(body))

    def body(self, request: bytes = REQUEST, now: float = 0.0) -> str | None:
        found = self.cache.find(request, now)
        return None if found is None else found.data.partition(b"\r\n\r\n")[2].decode()


def test_the_same_bytes_find_the_same_answer() -> None:
    keeper = Keeper()
    assert keeper.body() is None
    keeper.keep()
    assert keeper.body() == "pg1"
    assert keeper.body(REQUEST + b" ") is None
    assert keeper.body(REQUEST.replace(b"GET", b"PUT")) is None


def test_a_new_snapshot_forgets() -> None:
    keeper = Keeper()
    keeper.keep()
    keeper.snapshot = replace(keeper.snapshot)
    assert keeper.body() is None


def test_an_answer_made_while_the_snapshot_changed_is_not_kept() -> None:
    keeper = Keeper()
    assert keeper.body() is None
    keeper.snapshot = replace(keeper.snapshot)
    keeper.keep()
    assert keeper.body() is None


def test_what_is_too_old_is_forgotten_and_what_is_said_then_is_kept() -> None:
    now = clock.now()
    keeper = Keeper(stale_after=now + 0.25)
    assert keeper.body(now=now) is None
    keeper.keep()
    assert keeper.body(now=now + 0.25) == "pg1"
    assert keeper.body(now=now + 0.26) is None
    keeper.keep(body="too old")
    assert keeper.body(now=now + 99.0) == "too old"


def test_a_response_that_is_not_cacheable_is_not_kept() -> None:
    keeper = Keeper()
    keeper.keep(cacheable=False)
    assert keeper.body() is None


def test_answers_take_turns_evenly_and_share_them_with_others() -> None:
    keeper = Keeper()
    turn = count()

    def ask() -> str:
        """As the worker does it."""
        if (known := keeper.body()) is not None:
            return known
        exchange = Exchange(turn=keeper.cache.turn(REQUEST))
        body = f"pg{exchange.pick(turn, 3)}"
        keeper.keep(exchange=exchange, body=body)
        return body

    named = [f"pg{next(turn) % 3}" if n % 4 == 1 else ask() for n in range(30)]
    assert named == [f"pg{i % 3}" for i in range(30)]
    assert Counter(named) == {"pg0": 10, "pg1": 10, "pg2": 10}


def test_a_turn_that_could_not_be_answered_is_not_lost() -> None:
    keeper = Keeper()
    turn = count()
    exchange = Exchange()
    assert exchange.pick(turn, 2) == 0
    keeper.keep(exchange=exchange, body="pg0")
    assert keeper.body() is None
    assert keeper.body() is None
    exchange = Exchange(turn=keeper.cache.turn(REQUEST))
    assert exchange.pick(turn, 2) == 1


def test_memory_is_bounded() -> None:
    keeper = Keeper()
    for number in range(20_000):
        keeper.keep(b"GET /replica?min_lsn=0/%x HTTP/1.1\r\n\r\n" % number, body="x" * 1000)
    assert 2**18 < keeper.cache.size <= 2**20
    assert keeper.body(b"GET /replica?min_lsn=0/%x HTTP/1.1\r\n\r\n" % 19_999) == "x" * 1000
    assert keeper.body(b"GET /replica?min_lsn=0/%x HTTP/1.1\r\n\r\n" % 1) is None


def test_a_response_is_dated_when_it_is_sent() -> None:
    made = reply("pg1")
    for date in (b"Thu, 01 Jan 1970 00:00:00 GMT", b"Fri, 02 Jan 1970 00:00:00 GMT"):
        assert made.dated(date) == b"HTTP/1.1 200 OK\r\nDate: %s\r\n\r\npg1" % date
        assert made.data == made.dated(date)


def test_the_date_is_the_current_second() -> None:
    keeper, now = Keeper(), clock.now()
    keeper.body(now=now)
    keeper.keep()
    found = keeper.cache.find(REQUEST, now)
    assert found is not None
    sent = found.data.partition(b"Date: ")[2].partition(b"\r\n")[0].decode()
    assert abs(parsedate_to_datetime(sent).timestamp() - time.time()) < 2
    assert keeper.cache.find(REQUEST, now + 5.0) is not None
    assert keeper.cache.date


def of_cluster(name: str) -> bytes:
    return f"GET /c/{name}/master HTTP/1.1\r\n\r\n".encode()


def test_the_first_response_of_a_cluster_is_not_kept_if_its_snapshot_has_changed() -> None:
    keeper = Keeper()
    assert keeper.body(of_cluster("orders")) is None
    keeper.snapshot = replace(keeper.snapshot)
    answer = replace(response("of the snapshot before"), cluster="orders")
    keeper.cache.store(of_cluster("orders"), answer, reply("of the snapshot before"))
    assert keeper.body(of_cluster("orders")) is None


def test_a_response_is_kept_in_the_cache_of_its_cluster_only() -> None:
    snapshots: dict[str | None, Snapshot] = {
        name: Snapshot((), ready=True) for name in (None, "orders", "users")
    }
    cache = ResponseCaches(lambda cluster=None: snapshots.get(cluster))
    orders, users = of_cluster("orders"), of_cluster("users")
    for request, name in ((orders, "orders"), (users, "users"), (REQUEST, None)):
        assert cache.find(request, 0.0) is None
        cache.store(request, replace(response(""), cluster=name), reply(""))
    snapshots["users"] = Snapshot((), ready=True)
    found = [cache.find(request, 0.0) is not None for request in (orders, users, REQUEST)]
    assert found == [True, False, True]
    # Other forms of the path, of which the bytes do not show the cluster.
    other = of_cluster("%6Frders")
    assert cache.find(other, 0.0) is None
    cache.store(other, replace(response(""), cluster="orders"), reply(""))
    assert cache.find(other, 0.0) is None
    # One that a reload has removed meanwhile.
    del snapshots["orders"]
    cache.store(orders, replace(response(""), cluster="orders"), reply(""))
    assert cache.find(orders, 0.0) is None
