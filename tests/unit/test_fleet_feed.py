"""The stream of evidence: what subscribers receive, on a real loop and fake subscribers."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pgstatus.api.evidence import EvidenceFeed
from pgstatus.core.snapshot import Host, Observation, Snapshot
from pgstatus.core.state import Look
from pgstatus.fleet.document import Document, decode
from pgstatus.fleet.evidence import Condition, Evidence
from pgstatus.http.loop import Loop
from pgstatus.http.streams import Streams
from pgstatus.monitor.results import LatestResults
from pgstatus.telemetry.counters import Watchers
from tests.support.waiting import wait_until

HOSTS = tuple(Host(f"pg{number}", 5432) for number in range(4))
SEEN = Observation(
    in_recovery=True,
    lsn=1,
    timeline=1,
    receiving=True,
    system_identifier=7,
    host_time=0.0,
    replayed_at=None,
    started=0.0,
    finished=0.0,
)


class Watcher:
    """The evidence of a monitor whose results are those of the test."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.streams = Streams(self.loop, Watchers())
        self.results = LatestResults(HOSTS, self.streams.schedule)
        evidence = Evidence(self.results, lambda: Condition(None, ready=True), 1.0)
        self.feed = EvidenceFeed(evidence, lambda: Snapshot(hosts=()), lambda: False)

    def record(self, host: int, lsn: int, *, matters: bool = False) -> None:
        seen = replace(SEEN, lsn=lsn)
        self.results.record(host, Look.ROUND, seen, dead=False, matters=matters)

    def serve_until(self, what: str, predicate: Callable[[], bool]) -> None:
        def is_true_after_a_turn() -> bool:
            self.loop.turn(0.05)
            return predicate()

        wait_until(what, is_true_after_a_turn)


class Reader:
    """A subscriber that takes everything, and what it knows of the hosts."""

    def __init__(self, watcher: Watcher) -> None:
        self.documents: list[Document] = []
        self.known: dict[str, int | None] = {}
        self.push(watcher.feed.event())
        watcher.streams.add(watcher.feed, self)

    def push(self, event: bytes) -> None:
        (line,) = (line for line in event.split(b"\n") if line.startswith(b"data: "))
        document = decode(line.removeprefix(b"data: "))
        self.documents.append(document)
        for result in document.results:
            if isinstance(result.value, Observation):
                self.known[result.host.name] = result.value.lsn

    def end(self) -> None:
        pass


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.loop.close()


def hosts(document: Document) -> list[str]:
    return [result.host.name for result in document.results]


def test_the_first_document_contains_every_host(watcher: Watcher) -> None:
    watcher.record(2, 10)
    reader = Reader(watcher)
    assert hosts(reader.documents[0]) == [host.name for host in HOSTS]
    assert reader.documents[0].complete
    assert [result.value is None for result in reader.documents[0].results] == [
        True, True, False, True,
    ]  # fmt: skip


def test_the_results_of_a_round_are_one_event(watcher: Watcher) -> None:
    reader = Reader(watcher)
    watcher.serve_until("the subscriber is served", lambda: len(reader.documents) == 2)
    for host in range(4):
        watcher.record(host, 20)
    watcher.serve_until("they have arrived", lambda: any(map(hosts, reader.documents[1:])))
    assert hosts(reader.documents[-1]) == [host.name for host in HOSTS]
    assert not reader.documents[-1].complete


def test_a_result_that_matters_does_not_wait_for_others(watcher: Watcher) -> None:
    reader = Reader(watcher)
    watcher.serve_until("the subscriber is served", lambda: len(reader.documents) == 2)
    watcher.record(1, 30, matters=True)
    watcher.loop.turn(0)
    watcher.serve_until("it has arrived", lambda: any(map(hosts, reader.documents[1:])))


def test_documents_are_sent_although_nothing_happens(watcher: Watcher) -> None:
    reader = Reader(watcher)
    watcher.serve_until("documents have arrived", lambda: len(reader.documents) == 3)
    assert hosts(reader.documents[1]) == hosts(reader.documents[2]) == []
    assert reader.documents[1].sent < reader.documents[2].sent


def test_a_document_that_is_superseded_is_part_of_the_next_one(watcher: Watcher) -> None:
    readers = [Reader(watcher) for _ in range(300)]
    for number in range(1, 30):
        # Faster than a document is sent to all of them.
        watcher.record(number % 4, number, matters=True)
        watcher.loop.turn(0.01)
    latest = {f"pg{number % 4}": number for number in range(1, 30)}
    watcher.serve_until(
        "all know all results", lambda: all(reader.known == latest for reader in readers)
    )
    assert not any(document.complete for reader in readers for document in reader.documents[1:])
