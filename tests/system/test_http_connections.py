"""Clients that are slow, broken, greedy or many: each hurts only itself."""

import errno
import os
import random
import resource
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from pgstatus import clock
from pgstatus.api import create_app
from pgstatus.api.exchange import KEY, Exchange, Slow
from pgstatus.http import connection, loop, worker
from tests.support.serving import Client, Serving, daemon, service, undated
from tests.support.waiting import wait_until
from tests.support.world import World, master, replica

CLUSTER = replace(
    World().see_all(a=master(0), b=replica(0), c=replica(0)).snapshot, stale_after=float("inf")
)
GET = b"GET /master HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.fixture
def server() -> Iterator[Serving]:
    with Serving(CLUSTER) as server:
        yield server


@pytest.mark.parametrize("known", [True, False])
def test_split_at_every_byte(server: Serving, known: bool) -> None:
    whole = server.ask(GET)
    for at in range(1, len(GET)):
        with server.connect() as client:
            request = GET if known else GET.replace(b"Host: x", b"Host: %d" % at)
            client.send(request[:at])
            # An answer on another connection proves that the loop has seen the first part.
            server.ask(GET)
            client.send(request[at:])
            assert client.answer() == whole


def test_one_byte_at_a_time(server: Serving) -> None:
    with server.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET * 3:
            client.send(bytes([byte]))
        assert [client.answer() for _ in range(3)] == [server.ask(GET)] * 3


def test_pipelined_requests_are_answered_in_order(server: Serving) -> None:
    paths = ["/master", "/replica", "/version", "/nothing", "/hosts", "/replica"] * 50
    requests = [b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() for path in paths]
    requests[7] = b"POST /master HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    with server.connect() as client:
        client.send(b"".join(requests))
        answers = [client.answer() for _ in paths]
    with server.connect() as client:
        for number, request in enumerate(requests):
            client.send(request)
            assert len(answer := client.answer()) == len(answers[number])
            if b"/replica" not in request:
                assert answer == answers[number]
    named = Counter(answers[1::6] + answers[5::6])
    assert sorted(named.values()) == [49, 50] or sorted(named.values()) == [1, 49, 50]


def test_pipelined_behind_the_last_is_not_answered(server: Serving) -> None:
    for _ in range(2):
        with server.connect() as client:
            client.send(GET + LAST + GET + GET)
            assert client.rest().count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "headers",
    [
        b"Connection: keep-alive, close\r\n",
        b"Connection: keep-alive\r\nConnection: Close\r\n",
        b"Connection: upgrade,close\r\n",
    ],
)
def test_close_among_other_options_of_a_connection(server: Serving, headers: bytes) -> None:
    """RFC 9110, section 7.6.1: a list; RFC 9112, section 9.3: "close" is looked for first."""
    for _ in range(2):
        with server.connect() as client:
            client.send(GET.replace(b"Host: x\r\n", b"Host: x\r\n" + headers))
            assert b"\r\nConnection: close\r\n" in client.rest()


def test_bodies_are_skipped(server: Serving) -> None:
    with server.connect() as client:
        for _ in range(2):
            client.send(GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n") + b"GET ")
            assert client.answer() == server.ask(GET)
            client.send(GET)
            assert client.answer() == server.ask(GET)


def test_a_body_that_does_not_come_is_not_waited_for(server: Serving) -> None:
    with server.connect() as client:
        client.send(b"POST /master HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhello")
        answer = client.rest()
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nConnection: close\r\n" in answer


def test_a_large_body_that_nobody_reads_does_not_reset_the_answer(server: Serving) -> None:
    with server.connect() as client:
        client.send(b"POST /master HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        assert client.rest().startswith(b"HTTP/1.1 405 ")


def test_a_head_without_end_is_refused(server: Serving) -> None:
    with server.connect() as client:
        client.send(b"GET /master HTTP/1.1\r\n" + b"A: b\r\n" * 8000)
        assert client.rest().startswith(b"HTTP/1.1 431 ")


def test_half_closed_clients_are_answered(server: Serving) -> None:
    for sent in (GET, GET * 40, GET + LAST):
        with server.connect() as client:
            client.send(sent)
            client.sock.shutdown(socket.SHUT_WR)
            count = sent.count(b"\r\n\r\n")
            assert client.rest().count(b"HTTP/1.1 200 OK") == count


def test_resets_hurt_nobody(server: Serving) -> None:
    for sent in (b"", b"GET /mas", GET, GET * 500):
        with server.connect() as client:
            client.send(sent)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.ask(GET)
    wait_until("all are gone", lambda: not server.connections)


def test_slow_readers_get_all_of_it_and_hold_up_nobody() -> None:
    hosts = GET.replace(b"master", b"hosts")
    count = 1000
    with (
        Serving(CLUSTER, send_buffer=4096) as server,
        server.connect(receive_buffer=4096) as slow,
    ):
        sender = threading.Thread(target=slow.send, args=(hosts * count,))
        sender.start()
        wait_until("its answers do not fit", lambda: server.buffered > 0)
        expected = server.ask(hosts)
        for _ in range(count):
            # No more is answered than it takes.
            assert server.buffered < 100_000
            assert slow.answer() == expected
        sender.join()


def test_slow_readers_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SEND_SECONDS", 0.5)
    with (
        Serving(CLUSTER, send_buffer=4096) as server,
        server.connect(receive_buffer=4096) as slow,
    ):
        slow.send(GET.replace(b"master", b"hosts") * 100)
        wait_until("its answers do not fit", lambda: server.buffered > 0)
        wait_until("it is gone", lambda: not server.connections)


def test_slow_senders_hold_up_nobody(server: Serving) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(500)]
        for number, client in enumerate(slow):
            client.send(GET[: 1 + number % (len(GET) - 1)])
        begun = sum(1 + number % (len(GET) - 1) for number in range(500))
        wait_until("all have begun", lambda: server.buffered == begun)
        assert server.ask(GET)
        assert server.ask(GET.replace(b"Host: x", b"Host: never-seen"))
        for number, client in enumerate(slow):
            client.send(GET[1 + number % (len(GET) - 1) :])
        assert {client.answer() for client in slow} == {server.ask(GET)}


def test_slow_senders_are_given_up(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    with server.connect() as slow:
        for byte in GET:
            try:
                slow.send(bytes([byte]))
            except OSError:
                break
            if not slow_enough(server):
                break
        assert slow.sock.recv(100) == b""


def test_a_head_that_is_begun_behind_a_request_has_no_more_time(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    with server.connect() as slow:
        slow.send(GET + GET[:10])
        assert slow.answer()
        assert slow.rest() == b""


def slow_enough(server: Serving) -> bool:
    """Wait for a sweep of the loop; True while somebody is connected."""
    began = clock.now()
    wait_until("a second is over", lambda: clock.now() > began + 1)
    return bool(server.connections)


def test_idle_connections_are_closed() -> None:
    with Serving(CLUSTER, keepalive=1) as server, server.connect() as idle, server.connect() as new:
        assert idle.get("/version")
        assert idle.rest() == b""
        assert new.rest() == b""


def test_the_idlest_connections_make_room_for_new_ones() -> None:
    with Serving(CLUSTER, connections=20) as server, ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(20)]
        # Those that are accepted and answered in one turn of the loop are equally idle.
        wait_until("all are accepted", lambda: server.connections == 20)
        assert all(client.get("/master").startswith(b"HTTP/1.1 200") for client in kept)
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
        assert kept[0].rest() == b""
        assert kept[-1].get("/master").startswith(b"HTTP/1.1 200")


def test_connections_beyond_the_limit_are_answered_with_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If none of the others is idle: all of them wait."""
    monkeypatch.setattr(worker, "_REFUSALS", 5)
    question = b"GET /replica?min_lsn=F/0&wait_ms=10000 HTTP/1.1\r\nHost: x\r\n\r\n"
    with Serving(CLUSTER, connections=20) as server, ExitStack() as stack:
        busy = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in busy:
            client.send(question)
        wait_until("all wait", lambda: server.app_calls == 20)
        refused = server.ask(GET)
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n")
        assert refused.endswith(b'{"error_text": "too many connections"}')
        # Further ones wait to be accepted.
        crowd = [stack.enter_context(server.connect()) for _ in range(10)]
        for client in crowd:
            client.send(GET)
        server.waiters.close()
        assert all(client.answer().startswith(b"HTTP/1.1 200") for client in busy)
        statuses = Counter(client.answer()[9:12] for client in crowd)
        assert set(statuses) <= {b"200", b"503"}
        assert sum(statuses.values()) == 10
        wait_until("there is room again", lambda: server.ask(GET).startswith(b"HTTP/1.1 200"))


def test_the_limit_fits_the_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, new: limits.append(new))
    assert worker.connection_limits(10_000, 0) == (4096 - 300, 0)
    assert limits[-1] == (4096, 4096)
    assert worker.connection_limits(100, 200) == (100, 200)
    # If there are too few files, requests and subscribers get half of them each.
    assert worker.connection_limits(10_000, 10_000) == (1898, 1898)
    assert worker.connection_limits(10_000, 1000) == (2796, 1000)
    # With very few, hosts and logs get half of them.
    limits.append((256, 256))
    assert worker.connection_limits(100, 100) == (64, 64)


def test_without_files_the_worker_lives_on(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = socket.socket.accept
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN, errno.EINVAL]

    def fail_first(listener: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(0), "not now")
        return accept(listener)

    with server.connect() as client:
        client.get("/version")
        monkeypatch.setattr(socket.socket, "accept", fail_first)
        # It waits in the backlog until the loop tries again.
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
        assert not failures
        assert client.get("/version")


def test_a_new_snapshot_is_seen_by_the_next_request(server: Serving) -> None:
    hosts = server.snapshot.hosts
    with server.connect() as client:
        for number in range(200):
            name = f"m{number}"
            first = replace(hosts[0], host=replace(hosts[0].host, name=name))
            server.snapshot = replace(server.snapshot, hosts=(first, *hosts[1:]))
            assert client.text("/master") == client.text("/master") == name


def test_what_is_too_old_is_not_served(server: Serving) -> None:
    with server.connect() as client:
        assert client.text("/master") == "a"
        server.snapshot = replace(server.snapshot, stale_after=clock.now() + 0.5)
        assert client.text("/master") == "a"
        assert client.text("/master") == "a"
        wait_until("it is too old", lambda: b" 503 " in client.get("/master")[:20])
        assert clock.now() >= server.snapshot.stale_after
        assert b" 503 " in client.get("/master")[:20]


def test_turns_are_even_however_they_are_asked(server: Serving) -> None:
    """Known bytes, unknown bytes, JSON and text: one question, one turn."""
    json = b"GET /replica HTTP/1.1\r\nAccept: application/json\r\n\r\n"
    text = b"GET /replica HTTP/1.1\r\nHost: x\r\n\r\n"
    rng = random.Random(4)
    named: list[str] = []
    with server.connect() as client:
        for number in range(600):
            new = b"GET /replica HTTP/1.1\r\nX-Request: %d\r\n\r\n" % number
            request = rng.choice([json, text, new])
            client.send(request)
            body = client.answer().partition(b"\r\n\r\n")[2].decode()
            named.append(body[10] if request is json else body)
    assert named == [named[0], named[1]] * 300
    assert set(named) == {"b", "c"}


def test_memory_is_flat_under_ever_new_requests(server: Serving) -> None:
    def ask(first: int) -> int:
        with server.connect() as client:
            for batch in range(first, first + 8000, 100):
                for number in range(batch, batch + 100):
                    path = f"/replica?lag_ms={number}&lag_bytes={number:020}"
                    client.send(b"GET %s HTTP/1.1\r\n\r\n" % path.encode())
                for _ in range(100):
                    client.answer()
        return _rss()

    before = ask(0)
    assert server.worker.shared.cache.size <= 2**20
    assert ask(8000) - before < 4 * 2**20


def _rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class SlowApplication:
    """The application, but ``/slow`` waits in a thread until it is released."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self._app = create_app(daemon(service(lambda: CLUSTER)))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/slow":
            return self._app(environ, start)
        exchange: Exchange = environ[KEY]
        if exchange.may_defer:
            exchange.deferred = Slow()
            return []
        self.begun.release()
        assert self.go.wait(60)
        start("200 OK", [("Content-Length", "4")])
        return [b"done"]


def test_an_answer_that_waits_holds_up_nobody_else() -> None:
    app = SlowApplication()
    with Serving(CLUSTER, app=app) as server, server.connect() as waiter:
        # In order: one before it, one behind it, on the same connection.
        waiter.send(GET + b"GET /slow HTTP/1.1\r\n\r\n" + GET)
        assert waiter.answer() == server.ask(GET)
        assert app.begun.acquire(timeout=60)
        assert server.ask(GET) == server.ask(GET)
        app.go.set()
        assert waiter.answer().endswith(b"done")
        assert waiter.answer() == server.ask(GET)


def test_a_client_that_leaves_while_its_answer_waits() -> None:
    app = SlowApplication()
    with Serving(CLUSTER, app=app) as server:
        with server.connect() as client:
            client.send(b"GET /slow HTTP/1.1\r\n\r\n")
            assert app.begun.acquire(timeout=60)
        app.go.set()
        wait_until("it is gone", lambda: not server.connections)
        assert server.ask(GET)


def test_a_defect_of_the_app_is_answered_and_not_kept() -> None:
    def broken(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        raise RuntimeError("a defect")

    with Serving(CLUSTER, app=broken) as server:
        for _ in range(2):
            assert server.ask(GET).startswith(b"HTTP/1.1 500 ")
        assert server.app_calls == 2


def test_stopping_finishes_what_has_begun() -> None:
    with Serving(CLUSTER) as server, server.connect() as client, server.connect() as idle:
        assert client.get("/master")
        assert idle.get("/master")
        client.send(GET[:10])
        wait_until("it has begun", lambda: server.buffered == 10)
        server.stop()
        client.send(GET[10:])
        answer = client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert idle.rest() == b""


def test_garbage_ends_in_an_answer_or_the_end(server: Serving) -> None:
    rng = random.Random(4)
    for _ in range(300):
        garbage = bytearray(GET * 3)
        for _ in range(rng.randrange(1, 6)):
            garbage[rng.randrange(len(garbage))] = rng.randrange(256)
        with Client(server.address) as client:
            client.send(bytes(garbage))
            client.sock.shutdown(socket.SHUT_WR)
            client.rest()
    assert undated(server.ask(GET)) == server.ask(GET)
    wait_until("all are gone", lambda: not server.connections)


def test_a_defect_of_a_connection_ends_no_other(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(broken: object) -> None:
        raise MemoryError

    with server.connect() as broken, server.connect() as kept:
        assert kept.get("/master")
        monkeypatch.setattr(connection.Connection, "_advance", fail)
        broken.send(GET[:10])
        assert broken.rest() == b""
        monkeypatch.undo()
        assert kept.get("/master")
        assert server.ask(GET.replace(b"Host: x", b"Host: new")).startswith(b"HTTP/1.1 200")


def test_a_kernel_that_cannot_watch_a_file(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = loop.Loop.register
    failures = [errno.ENOMEM, errno.ENOSPC]

    def fail_first(self: loop.Loop, *arguments: Any) -> None:
        if failures:
            raise OSError(failures.pop(), "no memory")
        register(self, *arguments)

    with server.connect() as kept:
        # A second response proves that the connection is watched.
        assert kept.get("/master")
        assert kept.get("/master")
        monkeypatch.setattr(loop.Loop, "register", fail_first)
        for _ in range(2):
            with server.connect() as client:
                client.send(GET)
                # It ends, with or without the response, but at once.
                assert b"HTTP/1.1 5" not in client.rest()
        assert not failures
        assert kept.get("/master")
        assert server.ask(GET).startswith(b"HTTP/1.1 200")
