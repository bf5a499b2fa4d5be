"""Callbacks and iterators, with a server that determines each notification."""

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from pgstatus.client import (
    Answer,
    AsyncPgStatusClient,
    Hosts,
    NotReadyError,
    PgStatusClient,
    stream,
)
from tests.client.notifier import NOT_FOUND, Notifier, host
from tests.client.support import Asker, AskerFactory, answer
from tests.support.waiting import wait_until

REPLICAS = host("pg2", "replica"), host("pg3", "replica")


@pytest.fixture
def ask(make_asker: AskerFactory, notifier: Notifier) -> Asker:
    return make_asker(notifier.url, watch=True, max_age=0, deadline=10)


@pytest.fixture
def without_notifications(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "POLL", 0.02)
    notifier.head, notifier.state = NOT_FOUND, b""


class Record:
    """A callback that keeps its calls: the names of the hosts, and the reasons."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], str | None]] = []
        self.threads: set[str] = set()

    def __call__(self, answer: Answer) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(([host.host for host in answer.hosts], answer.reason))

    def has(self, *names: str) -> Callable[[], bool]:
        """Whether the last call was for these hosts."""
        return lambda: self.calls[-1:] == [([*names], None)]


def test_a_callback_for_each_change(ask: Asker, notifier: Notifier) -> None:
    record = Record()
    ask.on_change(record)
    ask.until("the first state", record.has("pg1"))
    notifier.set(*REPLICAS)
    ask.until("other hosts", record.has("pg2", "pg3"))
    notifier.set(*reversed(REPLICAS))
    ask.until("another order", record.has("pg3", "pg2"))
    notifier.set({**REPLICAS[1], "lag_ms": 7}, REPLICAS[0])
    notifier.alive()
    notifier.set(reason="no live host", fresh_ms=0)
    ask.until("no host", lambda: record.calls[-1] == ([], "no live host"))
    assert len(record.calls) == 4  # not for the lag
    in_loop = {"MainThread"} if ask.is_asynchronous else {"pg-status-watch"}
    assert record.threads == in_loop
    assert notifier.streams == ["/watch/master"]


def test_the_question_of_a_callback(ask: Asker, notifier: Notifier) -> None:
    record = Record()
    ask.on_change(record, "replica", lag_ms=5, fallback="none")
    ask.until("a state", record.has("pg1"))
    assert notifier.streams == ["/watch/replica?lag_ms=5&fallback=none"]
    # It shares the stream of the same question.
    later = Record()
    ask.on_change(later, "replica", lag_ms=5, fallback="none")
    ask.until("the known state", later.has("pg1"))
    assert ask("replica", lag_ms=5, fallback="none").host == "pg1"
    assert (len(notifier.streams), len(notifier.requests)) == (1, 0)


def test_all_hosts(ask: Asker, notifier: Notifier) -> None:
    states: list[Hosts] = []
    notifier.states["/watch"] = notifier.hosts("pg1:5432")
    ask.on_change(states.append, "hosts")
    ask.until("a state", lambda: states)
    assert states[0] == Hosts("hosts-1", (), True, False, "pg1:5432", None)
    assert notifier.streams == ["/watch"]


@pytest.mark.parametrize("question", ["", "hosts?", "/master", "status"])
def test_another_question(ask: Asker, question: str) -> None:
    with pytest.raises(ValueError, match="expected hosts, master, replica"):
        ask.client.on_change(print, question)
    with pytest.raises(ValueError, match="expected hosts, master, replica"):
        ask.client.watch(question)
    with pytest.raises(ValueError, match="must not be negative"):
        ask.client.watch("replica", lag_ms=-1)


def test_a_callback_that_is_removed(ask: Asker, notifier: Notifier) -> None:
    removed, kept = Record(), Record()
    remove = ask.on_change(removed)
    ask.on_change(kept)
    ask.until("states", lambda: removed.calls and kept.calls)
    remove()
    notifier.set(host("pg2"))
    ask.until("a change", kept.has("pg2"))
    remove()
    assert len(removed.calls) == 1


def test_a_callback_that_fails(
    ask: Asker, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()

    def fail(answer: Answer) -> None:
        record(answer)
        raise LookupError("a defect of the application")

    ask.on_change(fail)
    ask.until("a state", record.has("pg1"))
    notifier.set(host("pg2"))
    ask.until("another state", record.has("pg2"))
    assert "a defect of the application" in caplog.text


def test_a_callback_may_use_the_client(ask: Asker, notifier: Notifier) -> None:
    """Also remove itself, and add another one."""
    record, later = Record(), Record()
    removals: list[Callable[[], None]] = []

    def call(answer: Answer) -> None:
        wait_until("it can be removed", lambda: removals)
        removals.pop()()
        ask.client.on_change(later, "replica")
        record(answer)

    removals.append(ask.on_change(call))
    ask.until("a state", lambda: record.calls and later.calls)
    notifier.set(host("pg2"))
    ask.until("another state", later.has("pg2"))
    assert len(record.calls) == 1


def test_close_ends_callbacks(ask: Asker, notifier: Notifier) -> None:
    record, later = Record(), Record()
    ask.on_change(record)
    ask.until("a state", record.has("pg1"))
    ask("close")
    notifier.set(host("pg2"))
    ask.on_change(later)
    ask.until("a state", later.has("pg2"))
    assert len(record.calls) == 1


def test_a_new_stream_with_the_same_state_is_no_change(ask: Asker, notifier: Notifier) -> None:
    record = Record()
    notifier.set(*REPLICAS)
    ask.on_change(record, "replica")
    ask.until("a state", record.has("pg2", "pg3"))
    notifier.set(*REPLICAS)  # of another process: another ID
    notifier.answer = answer(json.dumps(REPLICAS[1]).encode())
    notifier.end_streams()
    ask.until("another stream", lambda: len(notifier.streams) == 2)
    notifier.set(host("pg4", "replica"))
    ask.until("a change", record.has("pg4"))
    assert len(record.calls) == 2


@pytest.mark.usefixtures("without_notifications")
def test_callbacks_without_notifications(ask: Asker, notifier: Notifier) -> None:
    record = Record()
    ask.on_change(record)
    ask.until("a state", record.has("by request"))
    notifier.answer = answer(json.dumps(host("pg2")).encode())
    ask.until("another state", record.has("pg2"))
    notifier.answer = answer(b"", "503 Service Unavailable")
    count = len(notifier.requests)
    ask.until("requests", lambda: len(notifier.requests) >= count + 3)
    notifier.answer = answer(b'{"host": null, "reason": "no live primary"}', "404 Not Found")
    ask.until("no master", lambda: record.calls[-1][0] == [])
    assert "no live primary" in str(record.calls[-1][1])
    assert len(record.calls) == 3


@pytest.mark.usefixtures("without_notifications")
def test_replicas_in_turn_are_no_change(ask: Asker, notifier: Notifier) -> None:
    record = Record()
    notifier.answers = [answer(json.dumps(each).encode()) for each in REPLICAS]
    ask.on_change(record, "replica")
    ask.until("both", record.has("pg2", "pg3"))
    calls, count = len(record.calls), len(notifier.requests)
    ask.until("requests", lambda: len(notifier.requests) >= count + 10)
    assert len(record.calls) == calls


@pytest.mark.usefixtures("without_notifications")
def test_all_hosts_without_notifications(ask: Asker, notifier: Notifier) -> None:
    entry = {"host": "pg1", "master": True, "alive": True, "lag_ms": 0, "lag_bytes": None,
             "sync_by_time": True, "sync_by_bytes": True}  # fmt: skip
    notifier.answer = answer(json.dumps([entry]).encode())
    states: list[Hosts] = []
    ask.on_change(states.append, "hosts")
    ask.until("a state", lambda: states)
    assert (states[0].master, states[0].ready, len(states[0].hosts)) == ("pg1:5432", True, 1)
    count = len(notifier.requests)
    ask.until("requests", lambda: len(notifier.requests) >= count + 3)
    assert len(states) == 1


def test_a_callback_that_takes_long(notifier: Notifier) -> None:
    """Meanwhile notifications are not read: what is in memory may be outdated."""
    requested, notifier.answer = notifier.answer, answer(b"", "503 Service Unavailable")
    done = threading.Event()

    def name(client: PgStatusClient) -> str:
        with contextlib.suppress(NotReadyError):
            return client.master().host
        return ""

    with PgStatusClient(notifier.url, max_age=0) as client:
        assert name(client) == ""

        def changed(answer: Answer) -> None:
            if answer.hosts[0].host == "pg2":
                done.wait(30)

        client.on_change(changed)
        notifier.set(host("pg2"))
        wait_until("it is in memory", lambda: name(client) == "pg2")
        notifier.answer = requested
        notifier.set(host("pg3"))
        wait_until("a request", lambda: name(client) == "by request")
        for _ in range(5):
            assert name(client) == "by request"
        done.set()
        wait_until("it is in memory", lambda: name(client) == "pg3")


def test_a_callback_that_ends_its_thread(
    notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_: Answer) -> None:
        sys.exit("no further")

    with PgStatusClient(notifier.url, max_age=0) as client:
        client.on_change(leave)
        wait_until("an answer from memory", lambda: client.master().host == "pg1")
        notifier.set(host("pg2"))
        wait_until("another answer from memory", lambda: client.master().host == "pg2")
    assert "no further" in caplog.text


def test_an_iterator_for_threads(notifier: Notifier) -> None:
    seen: list[Answer] = []

    def consume(changes: Iterator[Answer]) -> None:
        seen.extend(changes)
        ended.set()

    ended = threading.Event()
    with PgStatusClient(notifier.url) as client:
        thread = threading.Thread(target=consume, args=(client.watch("master"),))
        thread.start()
        wait_until("a state", lambda: [each.hosts[0].host for each in seen] == ["pg1"])
        notifier.set(host("pg2"))
        wait_until("another", lambda: [each.hosts[0].host for each in seen] == ["pg1", "pg2"])
    thread.join(10)
    assert ended.is_set()


def test_an_iterator_for_asyncio(notifier: Notifier) -> None:
    async def consume() -> list[str]:
        client = AsyncPgStatusClient(notifier.url)
        names = []
        async for state in client.watch("master"):
            names.append(state.hosts[0].host)
            if names[-1] == "pg1":
                for number in range(2, 100):
                    notifier.set(host(f"pg{number}"))
                while (await client.master()).host != "pg99":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            elif names[-1] == "pg99":
                await client.close()
        return names

    # A slow application does not get all of many states, but the latest.
    names = asyncio.run(asyncio.wait_for(consume(), 15))
    assert (names[0], names[-1]) == ("pg1", "pg99")
    assert len(names) < 50


def test_an_iterator_that_is_dropped(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 0.0)
    changes = PgStatusClient(notifier.url).watch("master")
    assert next(changes).hosts[0].host == "pg1"
    del changes

    def has_ended() -> bool:
        notifier.alive()
        return "pg-status-watch" not in {thread.name for thread in threading.enumerate()}

    wait_until("the stream ends", has_ended)
