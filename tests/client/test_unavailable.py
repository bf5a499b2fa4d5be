"""pg-status is frozen or stopped: previous answers are used, and no caller waits for new ones."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgstatus.client import (
    ClientError,
    NoHostError,
    NotReadyError,
    SplitBrainError,
    asynchronous,
    synchronous,
)
from pgstatus.demo.binaries import children_of
from pgstatus.demo.cluster import Cluster
from tests.client.support import HOST, REPLICA, AskerFactory, Server, answer
from tests.conftest import DaemonFactory
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

NOTICEABLE = 1.5
"""Seconds. The clients wait for 0.05 at most if a previous answer is usable, and otherwise for the
deadline, which is longer than this."""


@contextmanager
def frozen(daemon: Daemon) -> Iterator[None]:
    pids = [daemon.process.pid, *children_of(daemon.process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_no_caller_waits_for_a_frozen_pg_status(
    cluster: Cluster,
    make_daemon: DaemonFactory,
    make_asker: AskerFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One caller waits a moment, the others do not."""
    patience = 1.0
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "PATIENCE", patience)
    daemon = make_daemon(cluster, sleep_ms=100)
    ask = make_asker(daemon.url)
    requests = [("master", {}), ("replica", {}), ("replica", {"min_lsn": "0/1"}), ("hosts", {})]
    before = [ask(name, **arguments) for name, arguments in requests]
    times: list[float] = []
    with frozen(daemon):
        for (name, arguments), answered in zip(requests, before, strict=True):
            calls = ask.repeat(0.3, name, **arguments)
            assert {type(got) for _, got in calls} == {type(answered)}
            times += [took for took, _ in calls]
    assert max(times) < patience + NOTICEABLE
    assert sum(took > patience for took in times) <= 1
    checked_at = before[3][0].checked_at
    wait_until("new answers", lambda: ask.repeat(0.05, "hosts")[-1][1][0].checked_at > checked_at)


def test_new_positions_while_pg_status_is_frozen(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory
) -> None:
    """One caller waits for the deadline; the others can use the master immediately."""
    daemon = make_daemon(cluster, sleep_ms=100)
    deadline = 1.0
    ask = make_asker(daemon.url, deadline=deadline)
    positions = iter(f"FF/{number:X}" for number in range(1, 10_000))

    def times() -> list[float]:
        times = []
        for _ in range(20):
            [(took, answered)] = ask.repeat(0.001, "replica", min_lsn=next(positions))[:1]
            assert isinstance(answered, ClientError)
            times.append(took)
        return times

    with frozen(daemon):
        assert sum(took > 0.9 * deadline for took in times()) <= 1
    wait_until(
        "positions are answered",
        lambda: (
            not isinstance(ask.repeat(0.001, "replica", min_lsn=next(positions))[0][1], ClientError)
        ),
    )


def test_no_caller_waits_while_pg_status_is_stopped(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory
) -> None:
    daemon = make_daemon(cluster, sleep_ms=100)
    ask = make_asker(daemon.url)
    ask("master")
    daemon.stop()
    calls = ask.repeat(1.5, "master")
    assert {got.host for _, got in calls} == {cluster.primary.address}
    assert max(took for took, _ in calls) < NOTICEABLE


def test_no_caller_waits_for_a_slow_pg_status(make_asker: AskerFactory, server: Server) -> None:
    ask = make_asker(server.url, max_age=0, deadline=10)
    ask("replica")
    server.each_byte = 0.01  # two seconds for a response
    server.answer = answer(HOST)

    def has_new_answer() -> bool:
        calls = ask.repeat(0.2, "replica")
        assert max(took for took, _ in calls) < NOTICEABLE
        return bool(calls[-1][1].role == "master")

    wait_until("the new answer is used", has_new_answer)


def test_pg_status_is_not_asked_by_every_caller_while_it_is_frozen(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, deadline=0.4)
    ask("replica")
    server.may_answer.clear()
    assert len(ask.repeat(2, "replica")) > 50
    assert len(server.requests) <= 5


def test_a_previous_answer_is_used_for_stale_if_error_only(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, max_age=0, stale_if_error=0.5, deadline=0.2)
    began = time.monotonic()
    ask("replica")
    server.may_answer.clear()
    calls = ask.repeat(1.5, "replica")
    assert isinstance(calls[-1][1], ClientError)
    good = [got for _, got in calls if not isinstance(got, ClientError)]
    assert good
    assert time.monotonic() - began > 0.5


NOT_READY = answer(b"", "503 Service Unavailable")
NONE = answer(b'{"host": null, "reason": "no live host"}', "404 Not Found")
SPLIT = answer(
    b'{"error_text": "split brain", "split_brain": ["pg1:5432", "pg3:5432"]}',
    "503 Service Unavailable",
)


def test_what_is_withdrawn_in_the_background_is_not_used_again(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, max_age=0)
    ask("replica")
    server.may_answer.clear()
    assert ask("replica").host == "pg2"  # the request goes on
    server.answer = NONE
    server.may_answer.set()

    def is_withdrawn() -> bool:
        return isinstance(ask.repeat(0.02, "replica")[-1][1], NoHostError)

    wait_until("the answer is withdrawn", is_withdrawn)
    server.answer = NOT_READY
    with pytest.raises(NotReadyError):
        ask("replica")


@pytest.mark.usefixtures("patient")
def test_a_replica_that_is_withdrawn_is_not_used_for_a_position(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, max_age=0)
    for position in ("0/1", "2:0/1"):
        ask("replica", min_lsn=position)
    ask("replica", lag_ms=5, min_lsn="0/1")
    server.answer = NONE
    with pytest.raises(NoHostError):
        ask("replica")
    server.answer = NOT_READY
    for position in ("0/1", "2:0/1"):
        with pytest.raises(NotReadyError):
            ask("replica", min_lsn=position)
    # A question with other limits has another answer.
    assert ask("replica", lag_ms=5, min_lsn="0/1").host == "pg2"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("withdrawal", "error"), [(NONE, NoHostError), (SPLIT, SplitBrainError)])
def test_a_master_that_is_withdrawn_is_not_used_in_place_of_a_replica(
    make_asker: AskerFactory, server: Server, withdrawal: bytes, error: type[ClientError]
) -> None:
    ask = make_asker(server.url, max_age=0)
    server.answer = answer(HOST)
    ask("master")
    ask("replica")
    server.answer = answer(REPLICA)
    ask("sync_by_time")
    server.answer = withdrawal
    with pytest.raises(error):
        ask("master")
    server.answer = NOT_READY
    with pytest.raises(NotReadyError):
        ask("replica")
    assert ask("sync_by_time").host == "pg2"
