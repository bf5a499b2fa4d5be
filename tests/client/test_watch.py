"""Answers from memory, with a server that determines each notification."""

import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pgstatus.client import NoHostError, NotReadyError, PgStatusClient, stream, streams, watching
from pgstatus.client.events import MAX_EVENT_BYTES, Event
from pgstatus.client.watching import Message
from tests.client.notifier import HEAD, NOT_FOUND, Notifier, host
from tests.client.support import Asker, AskerFactory, answer
from tests.support.waiting import wait_until

BY_REQUEST = "by request"
REPLICAS = host("pg2", "replica"), host("pg3", "replica")


OPTIONS: dict[str, Any] = {"watch": True, "max_age": 0, "deadline": 10}


@pytest.fixture
def ask(make_asker: AskerFactory, notifier: Notifier) -> Asker:
    return make_asker(notifier.url, **OPTIONS, stale_if_error=0)


@pytest.fixture
def ask_with_previous(make_asker: AskerFactory, notifier: Notifier) -> Asker:
    """A client that uses a previous answer if pg-status gives none."""
    return make_asker(notifier.url, **OPTIONS)


@pytest.fixture
def ask_threads(notifier: Notifier) -> Iterator[Asker]:
    """One client only: both use the same code for what the server sends."""
    ask = Asker(False, notifier.url, **OPTIONS, stale_if_error=0)
    yield ask
    ask.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a minute otherwise takes less than a second."""
    for constant in ("SILENCE", "FIRST_EVENT", "UNSUPPORTED_PAUSE", "BUSY_PAUSE", "POLL"):
        monkeypatch.setattr(stream, constant, 0.1)


def wait_for(ask: Asker, expected: str, question: str = "master", **limits: Any) -> None:
    wait_until(f"it is {expected}", lambda: ask(question, **limits).host == expected)


def assert_requests(ask: Asker, question: str = "master") -> None:
    """No answer comes from memory."""
    for _ in range(5):
        assert ask(question).host == BY_REQUEST


def test_the_first_answer_is_a_request(ask: Asker, notifier: Notifier) -> None:
    assert ask("master").host == BY_REQUEST
    wait_for(ask, "pg1")

    def are_from_memory() -> bool:
        count = len(notifier.requests)
        names = {ask("master").host for _ in range(100)}
        return names == {"pg1"} and len(notifier.requests) == count

    # A notification that was read may not be processed yet.
    wait_until("the answers come from memory", are_from_memory)
    assert notifier.streams == ["/watch/master"]


def test_each_question_has_a_stream(ask: Asker, notifier: Notifier) -> None:
    for _ in range(2):
        ask("replica", lag_ms=5, fallback="none")
        ask("sync_by_time")
    notifier.wait_for_streams(2)
    for limits in ({"lag_ms": 5, "fallback": "none"}, {}):
        wait_for(ask, "pg1", "replica" if limits else "sync_by_time", **limits)
    assert sorted(notifier.streams) == [
        "/watch/replica?lag_ms=5&fallback=none",
        "/watch/sync_by_time",
    ]


def test_positions_and_all_hosts_are_requests(ask: Asker, notifier: Notifier) -> None:
    wait_for(ask, "pg1", "replica")
    for arguments in ({"min_lsn": "0/1"}, {"wait_ms": 5}):
        assert ask("replica", **arguments).host == BY_REQUEST
    notifier.answer = answer(b"[]")
    assert ask("hosts") == ()
    assert notifier.streams == ["/watch/replica"]


def test_no_notifications_if_they_are_not_wanted(
    make_asker: AskerFactory, notifier: Notifier
) -> None:
    assert_requests(make_asker(notifier.url, watch=False, max_age=0))
    assert notifier.streams == []


def test_equal_hosts_in_turn(ask: Asker, notifier: Notifier) -> None:
    notifier.set(*REPLICAS)
    wait_for(ask, "pg2", "replica")

    def are_in_turn() -> bool:
        names = [ask("replica").host for _ in range(100)]
        return names.count("pg2") == names.count("pg3") == 50

    wait_until("the hosts are named in turn", are_in_turn)


def test_many_threads(
    ask_threads: Asker, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them checks for unread notifications."""
    monkeypatch.setattr(stream, "UNREAD", 0.0)
    wait_for(ask_threads, "pg1")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            names = set(threads.map(lambda _: ask_threads("master").host, range(4000)))
    finally:
        sys.setswitchinterval(interval)
    assert names == {"pg1"}


def test_a_change(ask_with_previous: Asker, notifier: Notifier) -> None:
    wait_for(ask_with_previous, "pg1")
    notifier.set(host("pg2"))
    wait_for(ask_with_previous, "pg2")
    usual = notifier.answer
    notifier.answer = answer(b'{"host": null, "reason": "none"}', "404 Not Found")
    notifier.set(reason="no live primary")
    with pytest.raises(NoHostError):
        wait_for(ask_with_previous, "never")
    # Nothing of what was withdrawn is used while pg-status gives no answer.
    notifier.answer = answer(b"", "503 Service Unavailable")
    with pytest.raises(NotReadyError):
        ask_with_previous("master")
    notifier.answer = usual
    notifier.set(host("pg3"))
    wait_for(ask_with_previous, "pg3")
    assert len(notifier.streams) == 1


def test_a_notification_that_was_read_but_not_processed(
    ask_threads: Asker, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the process was stopped between the two: the previous answer is not used."""
    wait_for(ask_threads, "pg1")
    was_read, may_continue = threading.Event(), threading.Event()

    def read_message(event: Event) -> Message | None:
        was_read.set()
        may_continue.wait()
        return watching.read_message(event)

    monkeypatch.setattr(stream, "UNREAD", 0.0)
    monkeypatch.setattr(stream, "read_message", read_message)
    notifier.set(host("pg2"))
    assert was_read.wait(15)
    assert_requests(ask_threads)
    may_continue.set()
    wait_for(ask_threads, "pg2")


def test_an_answer_is_used_while_it_is_fresh(ask_threads: Asker, notifier: Notifier) -> None:
    wait_for(ask_threads, "pg1")
    notifier.head = NOT_FOUND  # no other stream
    notifier.set(host("pg2"), fresh_ms=1500)
    wait_for(ask_threads, "pg2")
    wait_for(ask_threads, BY_REQUEST)
    assert_requests(ask_threads)


def test_pg_status_knows_nothing_certain(ask: Asker, notifier: Notifier) -> None:
    wait_for(ask, "pg1")
    notifier.alive(fresh_ms=0)
    wait_for(ask, BY_REQUEST)
    assert_requests(ask)
    notifier.alive()
    wait_for(ask, "pg1")
    assert len(notifier.streams) == 1


def test_pg_status_is_not_ready(ask_with_previous: Asker, notifier: Notifier) -> None:
    """The previous answer may be used then, as without notifications."""
    notifier.set(host("pg2"))
    wait_for(ask_with_previous, "pg2")
    notifier.alive()
    notifier.set(host("pg1"))
    wait_for(ask_with_previous, "pg1")
    notifier.answer = answer(b"", "503 Service Unavailable")
    notifier.set(reason="not ready", fresh_ms=0)
    for _ in range(5):
        assert ask_with_previous("master").host == "pg1"
    wait_until(
        "a request", lambda: ask_with_previous("master") and notifier.requests.count("/master") >= 2
    )


@pytest.mark.usefixtures("quick")
def test_no_answer_from_memory_without_a_stream(ask: Asker, notifier: Notifier) -> None:
    wait_for(ask, "pg1")
    notifier.head = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    notifier.end_streams()
    wait_for(ask, BY_REQUEST)
    assert_requests(ask)
    notifier.wait_for_streams(3)
    assert_requests(ask)
    notifier.head = HEAD
    wait_for(ask, "pg1")


@pytest.mark.usefixtures("quick")
def test_a_silent_stream_is_replaced(ask_threads: Asker, notifier: Notifier) -> None:
    wait_for(ask_threads, "pg1")
    notifier.wait_for_streams(2)
    wait_for(ask_threads, "pg1")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "head",
    [
        NOT_FOUND,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/event-stream\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"220 smtp.example.org\r\n\r\n",
        HEAD + b"event: answer\ndata: {}\n\n",
        HEAD + b"event: alive\ndata: <html>\n\n",
        HEAD + b"\x00" * (MAX_EVENT_BYTES + 1),
        b"",
    ],
    ids=[
        "404", "400", "401", "302", "500", "JSON", "no type", "smtp", "no fields", "HTML", "large",
        "nothing",
    ],
)  # fmt: skip
def test_a_server_without_notifications(
    ask_threads: Asker, notifier: Notifier, head: bytes
) -> None:
    state, notifier.state = notifier.state, b""
    notifier.head = head
    assert_requests(ask_threads)
    notifier.wait_for_streams(2)
    assert_requests(ask_threads)
    notifier.head, notifier.state = HEAD, state  # an upgrade
    wait_for(ask_threads, "pg1")


@pytest.mark.usefixtures("quick")
def test_a_proxy_that_collects_the_response(ask_threads: Asker, notifier: Notifier) -> None:
    state, notifier.state = notifier.state, b": nothing yet\n"
    assert_requests(ask_threads)
    notifier.wait_for_streams(2)
    assert_requests(ask_threads)
    notifier.state = state
    wait_for(ask_threads, "pg1")


@pytest.mark.parametrize("transfer", ["HTTP/1.0", "chunked"])
def test_a_proxy_that_changes_the_transfer(
    ask_threads: Asker, notifier: Notifier, transfer: str
) -> None:
    if transfer == "HTTP/1.0":
        notifier.head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    else:
        notifier.head = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        state = notifier.state
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (state[:50], state[50:])]
        notifier.state = b"".join(parts)
    notifier.keeps_open = True
    wait_for(ask_threads, "pg1")


def test_a_notification_in_single_bytes(ask_threads: Asker, notifier: Notifier) -> None:
    wait_for(ask_threads, "pg1")
    state = notifier.state.replace(b"pg1", b"pg2")
    for byte in state:
        notifier.send(bytes([byte]))
    wait_for(ask_threads, "pg2")


@pytest.mark.parametrize("clock_error", [-86400.0, 86400.0])
def test_the_server_has_another_time(
    ask_threads: Asker, notifier: Notifier, clock_error: float
) -> None:
    notifier.clock_error = clock_error
    notifier.set(host("pg1"))
    wait_for(ask_threads, "pg1")
    notifier.alive()
    notifier.set(host("pg2"))
    wait_for(ask_threads, "pg2")
    assert len(notifier.streams) == 1


def test_a_notification_that_is_late(ask_threads: Asker, notifier: Notifier) -> None:
    """As after the process was stopped, or if the clock of the server was set back."""
    wait_for(ask_threads, "pg1")
    notifier.clock_error = -60
    notifier.set(host("pg2"))
    notifier.wait_for_streams(2)
    wait_for(ask_threads, "pg2")
    notifier.alive()
    wait_for(ask_threads, "pg2")
    assert len(notifier.streams) == 2


def test_a_notification_is_missing(ask_threads: Asker, notifier: Notifier) -> None:
    wait_for(ask_threads, "pg1")
    notifier.send(notifier.state.replace(b"event: answer", b"event: alive").replace(b"test-", b"x"))
    notifier.wait_for_streams(2)
    wait_for(ask_threads, "pg1")


def test_the_answer_in_memory_is_used_if_pg_status_does_not_respond(
    ask_with_previous: Asker, notifier: Notifier
) -> None:
    """Also long after the last request."""
    wait_for(ask_with_previous, "pg1")
    notifier.set(host("pg2"))
    wait_for(ask_with_previous, "pg2")
    notifier.answer = answer(b"", "503 Service Unavailable")
    notifier.head = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    notifier.end_streams()
    wait_until(
        "a request", lambda: ask_with_previous("master") and notifier.requests[-1] == "/master"
    )
    for _ in range(5):
        assert ask_with_previous("master").host == "pg2"


def test_a_limited_number_of_questions_is_watched(
    ask_threads: Asker, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_QUESTIONS", 2)
    for lag in (1, 2):
        wait_for(ask_threads, "pg1", "replica", lag_ms=lag)
    for lag in range(3, 20):
        assert ask_threads("replica", lag_ms=lag).host == BY_REQUEST
    assert len(notifier.streams) == 2
    # A stream ends if its question is not asked any more: another one has room.
    monkeypatch.setattr(stream, "IDLE", 0.0)

    def have_ended() -> bool:
        notifier.alive()
        return not reading_threads()

    wait_until("the streams end", have_ended)
    monkeypatch.setattr(stream, "IDLE", 60.0)
    wait_for(ask_threads, "pg1", "replica", lag_ms=20)
    assert notifier.streams[2:] == ["/watch/replica?lag_ms=20"]


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pg-status-watch"]


def test_a_closed_client_has_no_stream_and_can_be_used_again(
    ask: Asker, notifier: Notifier
) -> None:
    wait_for(ask, "pg1")
    ask("close")
    wait_until("the thread ends", lambda: not reading_threads())
    assert ask("master").host == BY_REQUEST
    wait_for(ask, "pg1")


# Its connection for requests is closed by the garbage collector as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_that_is_not_closed_is_collected(notifier: Notifier) -> None:
    clients = [PgStatusClient(notifier.url)]
    wait_until("an answer from memory", lambda: clients[0].master().host == "pg1")
    clients.clear()
    gc.collect()
    wait_until("the thread ends", lambda: not reading_threads())


def test_no_thread_can_be_started(
    ask_threads: Asker, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "pg-status-watch":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert ask_threads("master").host == BY_REQUEST
    wait_for(ask_threads, "pg1")
