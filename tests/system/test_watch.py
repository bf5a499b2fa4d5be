"""``/watch``: subscribers of changes, on our worker and a snapshot that the test replaces."""

import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgstatus import clock
from pgstatus.core.render import host_entry
from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.http import connection, worker
from pgstatus.lsn import format_lsn
from pgstatus.settings.tls import server_context
from tests.support.certificates import Certificates
from tests.support.events import Event, Subscriber
from tests.support.serving import Client, Serving
from tests.support.waiting import wait_until
from tests.support.world import World, master, refused, replica


def snapshot_of(world: World, *, fresh: float = 3600.0) -> Snapshot:
    return replace(world.snapshot, stale_after=clock.now() + fresh)


HEALTHY = World().see_all(a=master(1), b=replica(1), c=replica(1))
FAILED_OVER = World().see_all(a=refused(1), b=master(1, timeline=2), c=replica(1, timeline=2))
WITHOUT_MASTER = World().see_all(a=refused(1), b=replica(1), c=replica(1))
for again in (2, 3):
    WITHOUT_MASTER.see("a", refused(again))


def publish(server: Serving, snapshot: Snapshot) -> None:
    """What the monitoring thread does."""
    server.snapshot = snapshot
    server.worker.shared.streams.schedule()


@pytest.fixture
def server() -> Iterator[Serving]:
    with Serving(snapshot_of(HEALTHY)) as server:
        yield server


def subscribe(server: Serving, path: str, *, receive_buffer: int | None = None) -> Subscriber:
    return Subscriber.connect(server.address, path, receive_buffer=receive_buffer)


def test_the_first_event_is_sent_immediately(server: Serving) -> None:
    with subscribe(server, "/watch/master") as stream:
        event = stream.next()
        head = stream.head.splitlines()
        assert head[0] == "HTTP/1.1 200 OK"
        headers = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in head[1:]}
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert headers["connection"] == "close"
        assert headers["x-accel-buffering"] == "no"
        assert "content-length" not in headers
        assert event.kind == "answer"
        assert event.id == event.data["id"]
        assert re.fullmatch(r"[0-9a-f]+-\d+", event.id)
        [host] = event.data["hosts"]
        assert (host["host"], host["role"]) == ("a", "master")
        assert event.data["reason"] is None
        assert event.data["fresh_until"].endswith("Z")
        assert 0 < event.data["fresh_ms"] <= 30_000


def test_the_hosts_of_an_answer_are_all_equally_good_ones(server: Serving) -> None:
    with subscribe(server, "/watch/replica?lag_ms=500") as stream:
        entries = stream.next().data["hosts"]
    assert [entry["host"] for entry in entries] == ["b", "c"]
    with server.connect() as client:
        client.send(b"GET /replica HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n")
        requested = json.loads(client.answer().partition(b"\r\n\r\n")[2])
    assert set(requested) == set(entries[0])


def test_a_change_is_an_event_and_a_change_of_lag_is_not(server: Serving) -> None:
    with subscribe(server, "/watch/master") as stream:
        first = stream.next("answer")
        later = World().see_all(a=master(2), b=replica(1), c=replica(2))
        publish(server, snapshot_of(later))
        publish(server, snapshot_of(FAILED_OVER))
        second = stream.next("answer")
        assert [host["host"] for host in second.data["hosts"]] == ["b"]
        assert second.id.partition("-")[0] == first.id.partition("-")[0]
        assert int(second.id.partition("-")[2]) > int(first.id.partition("-")[2])


def test_without_an_answer_there_is_a_reason_and_the_stream_continues(server: Serving) -> None:
    with subscribe(server, "/watch/master") as stream:
        stream.next()
        publish(server, snapshot_of(WITHOUT_MASTER))
        event = stream.next("answer").data
        assert event["hosts"] == []
        assert event["reason"]
        publish(server, World().snapshot)
        event = stream.next("answer").data
        assert event["hosts"] == []
        assert event["reason"] == "not ready: not every host has been checked yet"
        assert event["fresh_ms"] == 0
        publish(server, snapshot_of(HEALTHY))
        assert stream.hosts() == ["a"]


@pytest.mark.parametrize(("path", "most"), [("/watch?every_ms=100", 1000), ("/watch", 10_000)])
def test_the_next_event_follows_within_next_ms(server: Serving, path: str, most: int) -> None:
    """Subscribers of the figures are sent one every second."""
    server.snapshot = snapshot_of(HEALTHY)
    with subscribe(server, path) as stream:
        assert stream.next().data["next_ms"] == most
        if most == 1000:
            assert stream.next("alive").data["next_ms"] == most


def test_a_state_that_becomes_too_old_is_an_event(server: Serving) -> None:
    server.snapshot = snapshot_of(HEALTHY, fresh=0.6)
    with subscribe(server, "/watch/replica") as stream:
        first = stream.next()
        assert 0 < first.data["fresh_ms"] <= 600
        alive = stream.next("alive")
        assert alive.data["id"] == first.id
        assert set(alive.data) == {"id", "fresh_until", "fresh_ms", "next_ms"}
        event = stream.next("answer")
        assert event.data["reason"] == "the last checks of the hosts are too old"
        assert event.data["hosts"] == []


def test_all_hosts(server: Serving) -> None:
    with subscribe(server, "/watch") as stream:
        event = stream.next("hosts")
        assert {"id", "ready", "stale", "master", "no_master", "hosts"} <= set(event.data)
        assert event.data["master"] == "a:5432"
        with server.connect() as client:
            assert json.loads(client.text("/hosts")) == event.data["hosts"]
        publish(server, snapshot_of(FAILED_OVER))
        event = stream.next("hosts")
        assert event.data["master"] == "b:5432"
        assert [host["alive"] for host in event.data["hosts"]] == [False, True, True]


def test_changed_lag_figures_are_sent_on_request(server: Serving) -> None:
    def late(lsn: int) -> Snapshot:
        return snapshot_of(World().see_all(a=master(1), b=replica(1), c=replica(1, lsn=lsn)))

    server.snapshot = late(999)
    with (
        subscribe(server, "/watch?every_ms=100") as stream,
        subscribe(server, "/watch") as other,
    ):
        other.next()
        assert stream.next("hosts").data["hosts"][2]["lsn"] == format_lsn(999)
        for lsn in (998, 997):
            publish(server, late(lsn))
            assert stream.next("hosts").data["hosts"][2]["lsn"] == format_lsn(lsn)
        assert other.is_silent(0.2)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/watch/replica?min_lsn=0/1", "min_lsn cannot be watched"),
        ("/watch/replica?lag_ms=x", "Invalid lag_ms"),
        ("/watch/master?wait_ms=1000", "wait_ms requires since"),
        ("/watch/master?since=x&wait_ms=99999", "Invalid wait_ms"),
        ("/watch?every_ms=99", "Invalid every_ms"),
    ],
)
def test_invalid_parameters(server: Serving, path: str, text: str) -> None:
    with server.connect() as client:
        answer = client.get(path)
    assert answer.startswith(b"HTTP/1.1 400")
    assert text in answer.decode()


def large(number: int) -> Snapshot:
    """Many hosts with long names, of which one is dead."""
    snapshot = snapshot_of(HEALTHY)
    name = "x" * 2000
    hosts = [replace(snapshot.hosts[1], host=Host(f"{name}{n}", 5432)) for n in range(40)]
    hosts[number] = replace(hosts[number], alive=False)
    return replace(snapshot, hosts=(*snapshot.hosts, *hosts))


def test_a_reader_that_does_not_read_gets_the_latest_state_not_a_queue(server: Serving) -> None:
    size = len(json.dumps([host_entry(status) for status in large(0).hosts]))
    with subscribe(server, "/watch", receive_buffer=4096) as stream:
        for number in range(40):
            publish(server, large(number))
            # The loop has handled it when it answers the next request.
            assert server.ask(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.buffered < 2 * size
        publish(server, snapshot_of(FAILED_OVER))
        events: list[Event] = []
        while not events or events[-1].data["master"] != "b:5432":
            events.append(stream.next("hosts"))
        assert len(events) < 20
    wait_until("the connection is closed", lambda: server.watchers.count == 0)
    assert server.buffered == 0


def test_a_reader_of_single_bytes(server: Serving) -> None:
    with subscribe(server, "/watch/master", receive_buffer=1024) as stream:
        received = b""
        while not received.endswith(b"}\n\n"):
            received += stream.sock.recv(1)
        publish(server, snapshot_of(FAILED_OVER))
        received = b""
        while not received.endswith(b"}\n\n"):
            received += stream.sock.recv(1)
        assert b'"host": "b"' in received


def test_subscribers_that_disappear_are_forgotten(server: Serving) -> None:
    with subscribe(server, "/watch/master") as closed, subscribe(server, "/watch") as reset:
        closed.next()
        reset.next()
        assert server.watchers.count == 2
        reset.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until("both are forgotten", lambda: server.watchers.count == 0)
    wait_until("both are closed", lambda: server.connections == 0)
    publish(server, snapshot_of(FAILED_OVER))
    with subscribe(server, "/watch/master") as stream:
        assert stream.hosts() == ["b"]


def test_subscribers_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WATCHERS", 20)
    with Serving(snapshot_of(HEALTHY), connections=10) as server, ExitStack() as stack:
        streams = []
        for _ in range(20):
            streams.append(stack.enter_context(subscribe(server, "/watch/master")))
            streams[-1].next()
        with server.connect() as client:
            answer = client.get("/watch/master")
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"Retry-After" in answer
            assert b"too many subscribers" in answer
        with server.connect() as client:
            assert client.get("/watch/master?since=x").startswith(b"HTTP/1.1 200")
        wait_until("the others are closed", lambda: server.connections == 20)
        # They do not occupy the places of requests, nor are they closed in favour of these.
        clients = [stack.enter_context(server.connect()) for _ in range(10)]
        for client in clients:
            assert client.get("/master").startswith(b"HTTP/1.1 200")
        publish(server, snapshot_of(FAILED_OVER))
        assert [stream.hosts() for stream in streams] == [["b"]] * 20


def test_encrypted_subscribers_take_more_memory_and_are_fewer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "ENCRYPTED_WATCHERS", 1)
    certificates = Certificates(tmp_path, "127.0.0.1")
    context = server_context(certificates.cert, certificates.key, None)

    def encrypted(server: Serving) -> socket.socket:
        sock = socket.create_connection(server.address)
        return certificates.context().wrap_socket(sock, server_hostname="127.0.0.1")

    with (
        Serving(snapshot_of(HEALTHY), context=context) as server,
        Subscriber(encrypted(server), "/watch/master") as stream,
    ):
        stream.next()
        with Subscriber(encrypted(server), "/watch/master") as other:
            assert other.head.startswith("HTTP/1.1 503")


def test_too_many_different_questions_are_refused(server: Serving) -> None:
    with ExitStack() as stack:
        for lag in range(256):
            stack.enter_context(subscribe(server, f"/watch/replica?lag_ms={lag}")).next()
        with server.connect() as client:
            assert client.get("/watch/replica?lag_ms=1000").startswith(b"HTTP/1.1 503")
        with subscribe(server, "/watch/replica?lag_ms=7") as stream:
            stream.next()
    wait_until("all are forgotten", lambda: server.watchers.count == 0)
    with subscribe(server, "/watch/replica?lag_ms=1000") as stream:
        stream.next()


def test_a_stream_after_other_requests_on_the_connection(server: Serving) -> None:
    with server.connect() as client:
        client.send(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        with Subscriber(client.sock, "/watch/master") as stream:
            # The bodies have no blank lines, so each response ends where the next one begins.
            assert stream.hosts() == ["a"]


def test_head_and_http_1_0(server: Serving) -> None:
    with server.connect() as client:
        client.send(b"HEAD /watch/master HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"text/event-stream" in client.answer(head=True)
        assert client.get("/master").startswith(b"HTTP/1.1 200")
    sock = socket.create_connection(server.address)
    with Subscriber(sock, "/watch/master", version="1.0") as stream:
        assert stream.hosts() == ["a"]


def test_a_stop_ends_streams_and_long_polls(server: Serving) -> None:
    with subscribe(server, "/watch/master") as stream, server.connect() as poll:
        event = stream.next()
        poll.send(f"GET /watch/master?since={event.id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until("it waits", lambda: server.watchers.count == 2)
        server.stop()
        assert poll.answer().startswith(b"HTTP/1.1 204")
        assert stream.rest() == []


def test_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1")
    context = server_context(certificates.cert, certificates.key, None)
    with Serving(snapshot_of(HEALTHY), context=context) as server:
        sock = socket.create_connection(server.address)
        encrypted = certificates.context().wrap_socket(sock, server_hostname="127.0.0.1")
        with Subscriber(encrypted, "/watch") as stream:
            assert stream.next().data["master"] == "a:5432"
            # Larger than one TLS record, and than the send buffer.
            publish(server, large(0))
            assert len(stream.next("hosts").data["hosts"]) == 43
            publish(server, snapshot_of(FAILED_OVER))
            assert stream.next("hosts").data["master"] == "b:5432"
        wait_until("it is forgotten", lambda: server.watchers.count == 0)


class TestLongPolling:
    """``?since=``."""

    def test_a_new_state(self, server: Serving) -> None:
        with server.connect() as client:
            first = json.loads(client.text("/watch/master?since=x"))
            client.send(
                f"GET /watch/master?since={first['id']} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            wait_until("it waits", lambda: server.watchers.count == 1)
            publish(server, snapshot_of(FAILED_OVER))
            second = json.loads(client.answer().partition(b"\r\n\r\n")[2])
            assert [host["host"] for host in second["hosts"]] == ["b"]
            assert second["id"] != first["id"]
        assert server.watchers.count == 0

    def test_an_old_or_foreign_id_is_answered_immediately(self, server: Serving) -> None:
        with server.connect() as client:
            first = json.loads(client.text("/watch/replica?since="))
            publish(server, snapshot_of(FAILED_OVER))
            second = json.loads(client.text(f"/watch/replica?since={first['id']}"))
            assert [host["host"] for host in second["hosts"]] == ["c"]
            third = json.loads(client.text("/watch/replica?since=0123456789ab-99999999"))
            assert third["id"] == second["id"]

    def test_after_the_time_limit(self, server: Serving) -> None:
        with server.connect() as client:
            first = json.loads(client.text("/watch/master?since=x"))
            answer = client.get(f"/watch/master?since={first['id']}&wait_ms=50")
            assert answer.startswith(b"HTTP/1.1 204")
            answer = client.get(f"/watch/master?since={first['id']}&wait_ms=0")
            assert answer.startswith(b"HTTP/1.1 204")
        assert server.watchers.count == 0

    def test_a_client_that_disappears(self, server: Serving) -> None:
        with server.connect() as client:
            first = json.loads(client.text("/watch/master?since=x"))
            client.send(
                f"GET /watch/master?since={first['id']} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            wait_until("it waits", lambda: server.watchers.count == 1)
        # Long before the time limit.
        wait_until("it is forgotten", lambda: server.watchers.count == 0)
        wait_until("it is closed", lambda: server.connections == 0)

    def test_an_event_without_a_new_state_does_not_end_a_long_poll(self, server: Serving) -> None:
        publish(server, snapshot_of(HEALTHY, fresh=1.5))
        with server.connect() as client, subscribe(server, "/watch/master") as stream:
            first = stream.next()
            client.send(f"GET /watch/master?since={first.id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            stream.next("alive")
            assert server.ask(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.watchers.count == 2
            publish(server, snapshot_of(FAILED_OVER))
            second = json.loads(client.answer().partition(b"\r\n\r\n")[2])
            assert [host["host"] for host in second["hosts"]] == ["b"]

    def test_a_defect_ends_the_connection(
        self, server: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise MemoryError

        with server.connect() as client:
            first = json.loads(client.text("/watch/master?since=x"))
            client.send(
                f"GET /watch/master?since={first['id']} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            wait_until("it waits", lambda: server.watchers.count == 1)
            monkeypatch.setattr(connection, "reply", fail)
            publish(server, snapshot_of(FAILED_OVER))
            assert client.rest() == b""

    def test_a_second_call_for_an_answered_poll_does_not_answer_the_next_one(
        self, server: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = server.worker.shared
        wait = shared.wait
        wakes: list[Callable[[], None]] = []

        def remember(subject: Any, wake: Callable[[], None]) -> Callable[[], object] | None:
            wakes.append(wake)
            return wait(subject, wake)

        monkeypatch.setattr(shared, "wait", remember)

        def poll(client: Client, known: str) -> None:
            client.send(f"GET /watch/master?since={known} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until("it waits", lambda: server.watchers.count == 1)

        with server.connect() as client:
            poll(client, json.loads(client.text("/watch/master?since=x"))["id"])
            publish(server, snapshot_of(FAILED_OVER))
            poll(client, json.loads(client.answer().partition(b"\r\n\r\n")[2])["id"])
            wakes[0]()
            assert server.ask(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.watchers.count == 1
            publish(server, snapshot_of(HEALTHY))
            assert client.answer().startswith(b"HTTP/1.1 200")
