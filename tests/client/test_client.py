"""Both clients with the same tests, against pg-status and against servers with faults.

``Asker`` hides the difference between the two, so each test is about both.
"""

import asyncio
import gc
import inspect
import socket
import time
from datetime import datetime
from pathlib import Path

import pytest

from pgstatus.client import (
    AsyncPgStatusClient,
    ChosenHost,
    ClientError,
    DeadlineError,
    NoHostError,
    NotReadyError,
    PgStatusClient,
    RefusedError,
    SplitBrainError,
    UnreachableError,
)
from pgstatus.demo.cluster import Cluster
from tests.client.support import HOST, REPLICA, AskerFactory, Server, answer
from tests.conftest import DaemonFactory
from tests.support.waiting import wait_until


def test_every_method_with_a_real_pg_status(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory
) -> None:
    ask = make_asker(make_daemon(cluster, sleep_ms=100).url)
    master = ask("master")
    assert isinstance(master, ChosenHost)
    assert (master.host, master.port) == (cluster.primary.address, cluster.primary.port)
    assert master.role == "master"
    replicas = {replica.address for replica in cluster.replicas}
    for question in (
        "replica",
        "sync_by_time",
        "sync_by_bytes",
        "sync_by_time_or_bytes",
        "sync_by_time_and_bytes",
        "most_sync_by_bytes",
    ):
        assert ask(question).host in replicas, question
    assert (
        ask("replica", lag_ms=60_000, lag_bytes=10**9, min_lsn="0/1", wait_ms=5).role == "replica"
    )
    assert ask("replica", min_lsn="FFFFFFFF/0").host == cluster.primary.address
    hosts = ask("hosts")
    assert [host.host for host in hosts] == [server.address for server in cluster.servers]
    assert [host.timeline for host in hosts] == [1, 1, 1]
    assert isinstance(hosts[0].checked_at, datetime)
    status = ask("status", host=cluster.primary.address)
    assert (status.role, status.alive, status.port) == ("master", True, cluster.primary.port)
    with pytest.raises(NoHostError):
        ask("status", host="unheard of")


def test_no_master(cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory) -> None:
    replica = cluster.replicas[0].address
    ask = make_asker(make_daemon(cluster, hosts=replica).url)
    with pytest.raises(NoHostError):
        ask("master")
    assert ask("replica").host == replica


def test_a_unix_domain_socket(make_asker: AskerFactory, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = Server(listener)
    try:
        assert make_asker(f"unix:{path}")("replica").host == "pg2"
    finally:
        server.stop()
    assert server.requests[0].startswith("GET /replica HTTP/1.1\r\nHost: localhost\r\n")


def test_the_token_and_one_connection_for_all_requests(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url + "/prefix/", token="secret", max_age=0)
    for _ in range(3):
        ask("replica", lag_ms=5, min_lsn="0/AB", wait_ms=7)
    assert server.connections == 1
    line, *headers = server.requests[0].split("\r\n")
    assert line == "GET /prefix/replica?lag_ms=5&min_lsn=0%2FAB&wait_ms=7 HTTP/1.1"
    assert "Authorization: Bearer secret" in headers


def test_answers_are_used_again(make_asker: AskerFactory, server: Server) -> None:
    ask = make_asker(server.url, max_age=60)
    for _ in range(5):
        assert ask("replica").host == "pg2"
    assert len(server.requests) == 1
    ask("replica", lag_ms=1)
    ask("most_sync_by_bytes")
    assert len(server.requests) == 3


def test_an_answer_serves_earlier_positions(make_asker: AskerFactory, server: Server) -> None:
    ask = make_asker(server.url, max_age=60)
    ask("replica")
    ask("replica", min_lsn="0/3000060")
    ask("replica", min_lsn="0/1", wait_ms=10)
    assert len(server.requests) == 1
    # A later position requires a request. The master as an answer is not stored, because a replica
    # soon will have replayed the position.
    server.answer = answer(HOST)
    for _ in range(2):
        assert ask("replica", min_lsn="0/3000061").role == "master"
    assert len(server.requests) == 3
    assert ask("replica").role == "replica"


def test_an_answer_serves_positions_on_its_timeline_only(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, max_age=60)
    ask("replica")
    for _ in range(2):
        ask("replica", min_lsn="2:0/3000060")
    ask("replica", min_lsn="2:0/1")
    assert len(server.requests) == 2
    ask("replica", min_lsn="3:0/1")
    assert len(server.requests) == 3


def test_concurrent_callers_share_a_request(make_asker: AskerFactory, server: Server) -> None:
    server.may_answer.clear()
    ask = make_asker(server.url, max_age=0)
    answers = ask.at_once("replica", 8, server.may_answer.set)
    assert {chosen.host for chosen in answers} == {"pg2"}
    assert len(server.requests) == 1


def test_an_error_is_shared_within_the_deadline(make_asker: AskerFactory, server: Server) -> None:
    server.may_answer.clear()
    ask = make_asker(server.url, deadline=1.0)
    began = time.monotonic()
    assert {type(error) for error in ask.at_once("replica", 8)} == {DeadlineError}
    assert time.monotonic() - began < 4.0  # one after the other, they take 8 s
    assert len(server.requests) == 1


def test_the_deadline_bounds_the_whole_response(make_asker: AskerFactory, server: Server) -> None:
    server.each_byte = 0.05  # each read is quick, all of them take ten seconds
    ask = make_asker(server.url, deadline=0.3)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        ask("replica")
    assert time.monotonic() - began < 5.0


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        ("404 Not Found", b'{"host": null, "reason": "no live host"}', NoHostError),
        (
            "503 Service Unavailable",
            b'{"error_text": "split brain", "split_brain": ["pg1:5432", "pg3:5432"]}',
            SplitBrainError,
        ),
    ],
)
def test_a_withdrawn_answer_is_not_used_again(
    make_asker: AskerFactory, server: Server, status: str, body: bytes, error: type[ClientError]
) -> None:
    ask = make_asker(server.url, max_age=0, stale_if_error=60)
    server.answer = answer(HOST)
    ask("master")
    server.answer = answer(body, status)
    with pytest.raises(error) as raised:
        ask("master")
    if isinstance(raised.value, SplitBrainError):
        assert raised.value.hosts == ("pg1:5432", "pg3:5432")
    server.answer = answer(b"", "503 Service Unavailable")
    with pytest.raises(NotReadyError):
        ask("master")


@pytest.mark.usefixtures("patient")
def test_an_answer_withdrawn_for_a_position_is_not_used_for_it(
    make_asker: AskerFactory, server: Server
) -> None:
    """This includes an answer to a request without a position."""
    ask = make_asker(server.url, max_age=0, stale_if_error=60)
    ask("replica")
    server.answer = answer(b'{"host": null, "reason": "no live host"}', "404 Not Found")
    with pytest.raises(NoHostError):
        ask("replica", min_lsn="0/1")
    server.answer = answer(b"", "503 Service Unavailable")
    with pytest.raises(NotReadyError):
        ask("replica", min_lsn="0/1")


def test_the_previous_answer_while_pg_status_is_not_ready(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, max_age=0, stale_if_error=1.0)
    ask("replica")
    server.answer = answer(b'{"error_text": "not ready: no host"}', "503 Service Unavailable")
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        assert ask("replica").host == "pg2"
    # Not every call sent a request, and the first new answer is used.
    assert len(server.requests) <= 4
    with pytest.raises(NotReadyError, match=r"^pg-status is not ready: no host$"):
        while time.monotonic() - began < 5:
            ask("replica")
    with pytest.raises(ClientError):
        ask("master")
    server.answer = answer(REPLICA)
    assert ask("replica").host == "pg2"


# The HTTP library leaves a Unix domain socket that it could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_server(make_asker: AskerFactory, unused: str) -> None:
    ask = make_asker(unused)
    with pytest.raises(UnreachableError):
        ask("master")
    assert issubclass(UnreachableError, ConnectionError)
    with pytest.raises(UnreachableError):
        make_asker("unix:/nowhere/pg-status.sock")("master")
    gc.collect()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(b'{"error_text": "Invalid lag_ms"}', "400 Bad Request"), RefusedError),
        (answer(b"", "401 Unauthorized"), RefusedError),
        (answer(b"", "404 Not Found"), NoHostError),
        (answer(b'{"host": null}', "404 Not Found"), NoHostError),
        (answer(b"", "503 Service Unavailable"), NotReadyError),
        (answer(b"", "500 Internal Server Error"), UnreachableError),
        (answer(b"<html>"), UnreachableError),
        (answer(b"[]"), UnreachableError),
        (b"220 smtp.example.org\r\n\r\n", UnreachableError),
        (b"", UnreachableError),
    ],
    ids=["400", "401", "404", "null", "503", "500", "html", "list", "smtp", "cut off"],
)
def test_other_responses(
    make_asker: AskerFactory, server: Server, reply: bytes, error: type[ClientError]
) -> None:
    server.answer = reply
    ask = make_asker(server.url, deadline=0.3)
    if not reply:
        error = DeadlineError
    with pytest.raises(error):
        ask("replica")
    server.answer = answer(REPLICA)
    assert ask("replica").host == "pg2"


def test_a_response_with_the_host_only(make_asker: AskerFactory, server: Server) -> None:
    """As pg-status 2.2 sends it."""
    server.answer = answer(b'{"host": "pg2"}')
    chosen = make_asker(server.url)("replica", min_lsn="0/1")
    assert chosen == ChosenHost("pg2", 5432, "unknown", None, None, None)


def test_invalid_parameters(make_asker: AskerFactory, server: Server) -> None:
    ask = make_asker(server.url)
    for arguments in ({"lag_ms": -1}, {"lag_bytes": -1}, {"min_lsn": "x"}, {"min_lsn": "1/2/3"}):
        with pytest.raises(ValueError, match=r"negative|LSN|int"):
            ask("replica", **arguments)
    for url in ("localhost:8000", "unix:", "ftp://x"):
        with pytest.raises(ValueError, match="expected http"):
            make_asker(url)
    assert server.requests == []


def test_a_cancelled_caller_does_not_affect_the_others(server: Server) -> None:
    server.may_answer.clear()

    async def scenario() -> None:
        async with AsyncPgStatusClient(server.url, watch=False) as client:
            callers = [asyncio.create_task(client.replica()) for _ in range(3)]
            await asyncio.to_thread(wait_until, "one has asked", lambda: server.requests)
            callers[0].cancel()
            await asyncio.wait(callers[:1])
            server.may_answer.set()
            answers = await asyncio.gather(*callers, return_exceptions=True)
            assert isinstance(answers[0], asyncio.CancelledError)
            assert [chosen.host for chosen in answers[1:] if isinstance(chosen, ChosenHost)] == [
                "pg2",
                "pg2",
            ]

    asyncio.run(scenario())
    assert len(server.requests) == 1


# A connection of a previous event loop cannot be closed, only garbage-collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_one_event_loop_after_another(server: Server) -> None:
    """As in a test suite that creates the client once."""
    client = AsyncPgStatusClient(server.url, max_age=0)
    for _ in range(2):
        assert asyncio.run(client.replica()).host == "pg2"
    asyncio.run(client.close())
    gc.collect()


def test_both_clients_have_the_same_methods() -> None:
    def questions(client: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(member).replace(return_annotation=""))
            for name, member in vars(client).items()
            if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_"))
        }

    assert questions(PgStatusClient) == questions(AsyncPgStatusClient)


def test_one_of_several_clusters_over_a_unix_domain_socket(
    make_asker: AskerFactory, tmp_path: Path
) -> None:
    path = tmp_path / "http.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = Server(listener)
    try:
        assert make_asker(f"unix:{path}/c/orders")("replica").host == "pg2"
    finally:
        server.stop()
    assert server.requests[0].startswith("GET /c/orders/replica HTTP/1.1\r\nHost: localhost\r\n")
