"""Both clients, with the same tests, against pg-status itself and against servers that misbehave.

``Asker`` makes one face for the two, so what is promised is promised of both.
"""

import asyncio
import contextlib
import gc
import inspect
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

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
from tests.conftest import DaemonFactory
from tests.support.waiting import wait_until

REPLICA = (
    b'{"host": "pg2", "port": 5432, "role": "replica", "lag_ms": 3, "lag_bytes": 0,'
    b' "lsn": "0/3000060"}'
)
HOST = REPLICA.replace(b"pg2", b"pg1").replace(b"replica", b"master")


class Asker:
    """A client of either kind, asked from a plain test."""

    def __init__(self, asynchronous: bool, url: str, **options: Any) -> None:
        kind = AsyncPgStatusClient if asynchronous else PgStatusClient
        self.client: Any = kind(url, **options)
        self._loop = asyncio.new_event_loop() if asynchronous else None

    def __call__(self, question: str, **arguments: Any) -> Any:
        answer = getattr(self.client, question)(**arguments)
        return self._loop.run_until_complete(answer) if self._loop else answer

    def at_once(
        self, question: str, count: int, then: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """The same question by so many callers; ``then`` when all have asked. Answers or errors."""
        ask = getattr(self.client, question)
        if self._loop:

            async def together() -> list[Any]:
                callers = [asyncio.ensure_future(ask()) for _ in range(count)]
                await asyncio.sleep(0)  # each has run up to where it waits
                then()
                return await asyncio.gather(*callers, return_exceptions=True)

            return self._loop.run_until_complete(together())

        def one(_: int) -> Any:
            try:
                return ask()
            except ClientError as error:
                return error

        with ThreadPoolExecutor(count) as threads:
            answers = threads.map(one, range(count))
            # One asks, the others wait for its answer.
            wait_until("all have asked", lambda: _threads_in(Future.result) == count - 1)
            then()
            return list(answers)

    def close(self) -> None:
        self("close")
        if self._loop:
            self._loop.close()


def _threads_in(function: Callable[..., Any]) -> int:
    """How many threads are waiting in it."""
    stacks = (traceback.walk_stack(frame) for frame in sys._current_frames().values())
    return sum(any(f.f_code is function.__code__ for f, _ in stack) for stack in stacks)


AskerFactory = Callable[..., Asker]


@pytest.fixture(params=["sync", "async"])
def make_asker(request: pytest.FixtureRequest) -> Iterator[AskerFactory]:
    askers = []

    def make(url: str, **options: Any) -> Asker:
        askers.append(Asker(request.param == "async", url, **options))
        return askers[-1]

    yield make
    for asker in askers:
        asker.close()


class Server:
    """Answers each request on a socket as its ``script`` says, and counts them."""

    def __init__(self, listener: socket.socket) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self.answer: bytes = answer(REPLICA)
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.each_byte = 0.0
        self._listener = listener
        self._open: list[socket.socket] = []
        self._stopping = threading.Event()
        listener.settimeout(0.02)
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def stop(self) -> None:
        self.may_answer.set()
        self._stopping.set()
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            self.connections += 1
            self._open.append(connection)
            threads.append(threading.Thread(target=self._serve, args=(connection,)))
            threads[-1].start()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for connection in self._open:
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with contextlib.suppress(OSError):
            while more := connection.recv(65536):
                received += more
                if b"\r\n\r\n" in received:
                    self.requests.append(received.decode())
                    received = b""
                    self.may_answer.wait()
                    self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        if not self.each_byte:
            connection.sendall(self.answer)
            return
        for byte in self.answer:
            connection.sendall(bytes([byte]))
            time.sleep(self.each_byte)


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.fixture
def server() -> Iterator[Server]:
    listener = socket.create_server(("127.77.7.1", 0))
    server = Server(listener)
    yield server
    server.stop()


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.77.7.1", 0)) as listener:
        return f"http://127.77.7.1:{listener.getsockname()[1]}"


def test_every_question_to_a_real_pg_status(
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


def test_a_unix_socket(make_asker: AskerFactory, tmp_path: Path) -> None:
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


def test_the_token_and_a_kept_connection(make_asker: AskerFactory, server: Server) -> None:
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


def test_an_answer_serves_every_position_that_it_is_past(
    make_asker: AskerFactory, server: Server
) -> None:
    ask = make_asker(server.url, max_age=60)
    ask("replica")
    ask("replica", min_lsn="0/3000060")
    ask("replica", min_lsn="0/1", wait_ms=10)
    assert len(server.requests) == 1
    # Further than that has to be asked, and the master as the answer is not kept: soon a replica
    # is there.
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


def test_callers_at_the_same_time_share_a_request(make_asker: AskerFactory, server: Server) -> None:
    server.may_answer.clear()
    ask = make_asker(server.url, max_age=0)
    answers = ask.at_once("replica", 8, server.may_answer.set)
    assert {chosen.host for chosen in answers} == {"pg2"}
    assert len(server.requests) == 1


def test_an_error_is_shared_and_nobody_waits_longer(
    make_asker: AskerFactory, server: Server
) -> None:
    server.may_answer.clear()
    ask = make_asker(server.url, deadline=1.0)
    began = time.monotonic()
    assert {type(error) for error in ask.at_once("replica", 8)} == {DeadlineError}
    assert time.monotonic() - began < 1.9
    assert len(server.requests) == 1


def test_the_deadline_is_for_the_whole_answer(make_asker: AskerFactory, server: Server) -> None:
    server.each_byte = 0.01  # every read is quick, the whole would take seconds
    ask = make_asker(server.url, deadline=0.3)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        ask("replica")
    assert time.monotonic() - began < 0.6


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
def test_an_answer_that_was_taken_back_is_not_used_again(
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


def test_what_was_taken_back_for_a_position_is_not_used_for_it(
    make_asker: AskerFactory, server: Server
) -> None:
    """Not even the answer to the question without a position, which was past it."""
    ask = make_asker(server.url, max_age=0, stale_if_error=60)
    ask("replica")
    server.answer = answer(b'{"host": null, "reason": "no live host"}', "404 Not Found")
    with pytest.raises(NoHostError):
        ask("replica", min_lsn="0/1")
    server.answer = answer(b"", "503 Service Unavailable")
    with pytest.raises(NotReadyError):
        ask("replica", min_lsn="0/1")


def test_the_last_answer_while_pg_status_is_away(make_asker: AskerFactory, server: Server) -> None:
    ask = make_asker(server.url, max_age=0, stale_if_error=1.0)
    ask("replica")
    server.answer = answer(b'{"error_text": "pg_monitor is not ready"}', "503 Service Unavailable")
    began = time.monotonic()
    while time.monotonic() - began < 0.8:
        assert ask("replica").host == "pg2"
    # It was not asked each time, and is heard again as soon as it is back.
    assert len(server.requests) <= 4
    with pytest.raises(NotReadyError):
        while time.monotonic() - began < 5:
            ask("replica")
    with pytest.raises(ClientError):
        ask("master")
    server.answer = answer(REPLICA)
    assert ask("replica").host == "pg2"


# The HTTP library drops a Unix socket that it could not connect, for the collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nobody_is_there(make_asker: AskerFactory, nobody: str) -> None:
    ask = make_asker(nobody)
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
def test_what_is_no_answer(
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


def test_a_pg_status_that_names_only_the_host(make_asker: AskerFactory, server: Server) -> None:
    """As 2.2 does."""
    server.answer = answer(b'{"host": "pg2"}')
    chosen = make_asker(server.url)("replica", min_lsn="0/1")
    assert chosen == ChosenHost("pg2", 5432, "unknown", None, None, None)


def test_questions_that_make_no_sense(make_asker: AskerFactory, server: Server) -> None:
    ask = make_asker(server.url)
    for arguments in ({"lag_ms": -1}, {"lag_bytes": -1}, {"min_lsn": "x"}, {"min_lsn": "1/2/3"}):
        with pytest.raises(ValueError, match=r"negative|LSN|int"):
            ask("replica", **arguments)
    for url in ("localhost:8000", "unix:", "ftp://x"):
        with pytest.raises(ValueError, match="expected http"):
            make_asker(url)
    assert server.requests == []


def test_a_cancelled_caller_takes_nothing_away(server: Server) -> None:
    server.may_answer.clear()

    async def scenario() -> None:
        async with AsyncPgStatusClient(server.url) as client:
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


# The connection of a loop that is gone cannot be closed any more, only collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_one_loop_after_another(server: Server) -> None:
    """As test suites run them, with the client made once."""
    client = AsyncPgStatusClient(server.url, max_age=0)
    for _ in range(2):
        assert asyncio.run(client.replica()).host == "pg2"
    asyncio.run(client.close())
    gc.collect()


def test_both_clients_ask_the_same() -> None:
    def questions(client: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(member).replace(return_annotation=""))
            for name, member in vars(client).items()
            if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_"))
        }

    assert questions(PgStatusClient) == questions(AsyncPgStatusClient)
