"""A relay with sources that deliver what the test says."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pgstatus import clock
from pgstatus.core.changes import Update
from pgstatus.core.snapshot import Failure, Host, HostStatus, Observation
from pgstatus.core.state import Look, Memory, Rules, State
from pgstatus.errors import Cause
from pgstatus.fleet.document import Document, Result, Value
from pgstatus.fleet.relay import Relay
from pgstatus.fleet.source import Receiver
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.monitor.waiters import Waiters
from tests.support.waiting import wait_until

PG1, PG2 = Host("pg1", 5432), Host("pg2", 5432)
RULES = Rules(sleep=1.0, max_fails=3, max_staleness=60.0)


class Source:
    """Delivers what `send` is given."""

    def __init__(self, name: str, thread: MonitoringThread) -> None:
        self.name = name
        self._thread = thread
        self._receiver: Receiver | None = None
        self.requested = 0

    async def run(self, receiver: Receiver) -> None:
        self._receiver = receiver
        await asyncio.Event().wait()

    def request_positions(self, seconds: float) -> None:
        self.requested += 1

    def call(self, function: Callable[[Receiver], object]) -> None:
        wait_until("the source runs", lambda: self._receiver is not None)
        receiver = self._receiver
        assert receiver is not None
        self._thread.call(lambda: function(receiver))

    def send(
        self, *results: tuple[Host, Value], memory: Memory | None = None, took: float = 0.0
    ) -> None:
        """``took``: seconds for which the watcher may have sent it."""
        now = clock.now()
        document = Document(
            watcher=f"epoch of {self.name}",
            name=self.name,
            version="1",
            sent=now,
            complete=True,
            results=tuple(Result(host, Look.ROUND, value) for host, value in results),
            memory=memory,
            ready=True,
        )
        self.call(lambda receiver: receiver.received(self.name, document, now, after=now - took))


class Running:
    """A relay of two sources in a thread of its own."""

    def __init__(
        self,
        second: type[Source] = Source,
        *,
        rules: Rules = RULES,
        before: State | None = None,
    ) -> None:
        self.thread = MonitoringThread()
        self.sources = [Source("w1", self.thread), second("w2", self.thread)]
        self.latest = Latest((), rules)
        self.waiters = Waiters(10)
        self.failures: list[BaseException] = []
        self.relay = Relay(
            self.thread,
            sources=self.sources,
            latest=self.latest,
            waiters=self.waiters,
            rules=rules,
            sink=self,
            on_failure=self.failures.append,
            before=before,
        )
        self.relay.start()

    def stop(self) -> None:
        self.relay.stop()
        self.thread.stop(5)
        assert not self.failures

    def publish(self, update: Update) -> None:
        pass

    def checked(self, host: Host, result: Observation | Failure, seconds: float) -> None:
        pass

    def hosts(self) -> dict[str, HostStatus]:
        """What is reported now."""
        return {status.host.name: status for status in self.latest.read().hosts}

    def ready(self) -> dict[str, HostStatus]:
        """The hosts, when the relay is ready."""
        wait_until("it is ready", lambda: self.latest.read().ready)
        return self.hosts()


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


def seen(*, in_recovery: bool, ago: float = 0.1, **facts: object) -> Observation:
    at = clock.now() - ago
    found = Observation(in_recovery, 1000, 1, in_recovery, 7, 0.0, None, at, at + 0.001)
    return replace(found, **facts)  # type: ignore[arg-type]


def failed(ago: float = 0.05) -> Failure:
    at = clock.now() - ago
    return Failure(Cause.CONNECT, "Connection refused", at, at + 0.001)


def master(ago: float = 0.1) -> tuple[Host, Value]:
    return PG1, seen(in_recovery=False, ago=ago)


def test_it_begins_when_all_sources_have_delivered(running: Running) -> None:
    first, second = running.sources
    first.send(master(), (PG2, failed()))
    second.send((PG1, failed()), (PG2, seen(in_recovery=True)))
    hosts = running.ready()
    assert hosts["pg1"].master
    assert not hosts["pg1"].possible_dead
    assert hosts["pg2"].alive
    assert not hosts["pg2"].possible_dead
    assert dict(hosts["pg1"].watchers) == {"w1": None, "w2": "Connection refused"}


def test_it_begins_when_a_source_has_failed(running: Running) -> None:
    first, second = running.sources
    second.call(lambda receiver: receiver.lost("w2", "Connection refused"))
    first.send(master())
    assert running.ready()["pg1"].master
    assert running.relay.delivering == {"w1": True, "w2": False}


def test_the_reason_for_not_being_ready_names_each_source(running: Running) -> None:
    first, second = running.sources
    first.call(lambda receiver: receiver.lost("w1", "no response in time"))
    second.call(lambda receiver: receiver.lost("w2", "Connection refused"))

    def reason() -> str | None:
        return running.latest.read().unusable(clock.now())

    expected = (
        "not ready: no watcher has delivered evidence yet; w1: no response in time; "
        "w2: Connection refused"
    )
    wait_until("the reasons", lambda: reason() == expected)
    first.send(master())
    running.ready()
    sources = (("w1", None), ("w2", "Connection refused"))
    wait_until("one delivers", lambda: running.latest.read().sources == sources)
    assert reason() is None


def test_it_does_not_wait_long_for_a_source(running: Running) -> None:
    running.sources[0].send(master())
    assert running.ready()["pg1"].watcher == "w1"


def test_the_first_document_may_contain_several_results_of_a_host(running: Running) -> None:
    running.sources[0].send(
        master(ago=0.3), (PG2, seen(in_recovery=True, ago=0.2)), (PG2, failed(ago=0.1))
    )
    pg2 = running.ready()["pg2"]
    assert pg2.alive
    assert pg2.possible_dead
    assert pg2.lag_ms is not None


def test_the_memory_of_all_sources_counts_before_the_first_answer(running: Running) -> None:
    first, second = running.sources
    first.send(master(), (PG2, failed()))
    memory = Memory(7, 2, frozenset({"pg2:5432"}), "pg2:5432", frozenset({"pg2:5432"}))
    second.send(master(), (PG2, failed()), memory=memory)
    running.ready()
    snapshot = running.latest.read()
    assert snapshot.master is None
    assert "timeline 2 exists" in str(snapshot.no_master)


def test_a_result_that_cannot_be_evaluated_is_a_failure_of_its_host(running: Running) -> None:
    broken = seen(in_recovery=True, standbys=("no", "standbys"))
    running.sources[0].send(master(), (PG2, broken))
    hosts = running.ready()
    assert hosts["pg1"].master
    assert "unexpected" in str(hosts["pg2"].error)


class Defective(Source):
    """A source with a defect."""

    async def run(self, receiver: Receiver) -> None:
        raise ValueError("a defect")


def test_an_unexpected_failure_of_a_source_does_not_end_the_relay() -> None:
    running = Running(Defective)
    running.sources[0].send(master())
    assert running.ready()["pg1"].master
    running.stop()


def test_older_results_do_not_replace_what_was_known_before_a_reload() -> None:
    promoted = seen(in_recovery=False, timeline=2, control_timeline=2, lsn=2000)
    former = Running()
    former.sources[0].send(master(), (PG2, promoted))
    assert former.ready()["pg2"].master
    former.stop()
    running = Running(before=former.relay.state)
    late = seen(in_recovery=True, ago=5.0, control_timeline=1)
    # The host that fails has responded later.
    running.sources[0].send(master(ago=5.0), (PG2, late))
    running.sources[1].send(master(ago=5.0), (PG2, failed(ago=5.0)))
    hosts = running.ready()
    assert hosts["pg2"].master
    assert not hosts["pg2"].possible_dead
    running.sources[0].send(master(ago=0.0), (PG2, failed(ago=0.0)))
    wait_until("later results count", lambda: running.hosts()["pg2"].possible_dead)
    running.stop()


def test_the_first_result_of_a_new_host_counts(running: Running) -> None:
    running.sources[0].send(master())
    running.ready()
    running.sources[0].send((PG2, seen(in_recovery=True)))
    wait_until("the host was checked", lambda: "pg2" in running.hosts())
    assert running.hosts()["pg2"].alive


def test_a_host_that_is_listed_again_is_known_at_once(running: Running) -> None:
    replica = PG2, seen(in_recovery=True)
    first, second = running.sources
    first.send(master())
    second.send(replica)
    running.ready()
    second.call(lambda receiver: receiver.lost("w2", "Connection refused"))
    wait_until("the host is removed", lambda: "pg2" not in running.hosts())
    second.send(replica)
    wait_until("the host is listed", lambda: "pg2" in running.hosts())
    assert running.hosts()["pg2"].alive


def test_a_result_may_have_any_age() -> None:
    running = Running(rules=replace(RULES, max_staleness=0.0))
    running.sources[0].send(master(ago=1e14), (PG2, failed(ago=1e14)))
    assert running.ready()["pg1"].master
    running.stop()


def test_the_distance_of_a_watcher_leaves_no_replica_late(running: Running) -> None:
    far = 0.4
    watcher = running.sources[0]

    def checked(lsn: int, ago: float, *, behind: int) -> None:
        written = seen(in_recovery=False, ago=ago, lsn=lsn)
        replayed = seen(in_recovery=True, ago=ago - 0.01, lsn=lsn - behind)
        watcher.send((PG1, written), (PG2, replayed), took=far)

    checked(1000, 0.9, behind=0)
    assert running.ready()["pg2"].in_sync
    # It has not replayed the last record that the master has written.
    checked(2000, 0.15, behind=1)
    checked(3000, 0.1, behind=1)

    def is_measured() -> bool:
        status = running.hosts()["pg2"]
        return status.lsn == 2999 and status.lag_ms is not None and 400 <= status.lag_ms <= 500

    wait_until("the lag is known", is_measured)
