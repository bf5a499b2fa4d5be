"""Threads and processes that outlive failovers, and a pg-status that is not available.

Two failovers: a switchover after which the old primary continues as a standby on the same address,
where it accepts sessions and rejects writes with SQLSTATE 25006; then a crash.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from pgstatus.client import ClientError, PgStatusClient
from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network
from pgstatus.sqlalchemy.sync import (
    PgStatusCluster,
    WSGIDBSessionMiddleware,
    atomic_db_session,
    commit_db_session,
    db_session,
    rollback_db_session,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.sync.wsgi import Environ, StartResponse
from tests.conftest import ClusterFactory, DaemonFactory
from tests.sqlalchemy.conftest import INSERT, url_of
from tests.sqlalchemy.sync.conftest import DRIVERS, session_maker
from tests.sqlalchemy.sync.gunicorn import Gunicorn
from tests.sqlalchemy.sync.test_middleware import Server as WSGIServer
from tests.sqlalchemy.test_failover import crash, switchover
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

Write = Callable[["Service", str], None]


class Service:
    def __init__(self, daemon: Daemon, driver: str) -> None:
        self.driver = driver
        self.cluster = PgStatusCluster(
            PgStatusClient(daemon.url, deadline=10.0), self.engine, session_maker
        )
        self.master = self.cluster.master()
        self.replica = self.cluster.replica()

    def engine(self, host: str, port: int) -> Engine:
        name = {"application_name": "threads"}
        return create_engine(url_of(self.driver, host, port), connect_args=name)


@pytest.fixture
def failing(make_cluster: ClusterFactory) -> Cluster:
    cluster = make_cluster(replicas=2)
    cluster.primary.sql("CREATE TABLE note (id bigserial PRIMARY KEY, body text NOT NULL)")
    return cluster


@pytest.fixture
def pg_status(failing: Cluster, make_daemon: DaemonFactory) -> Daemon:
    return make_daemon(failing, sleep_ms=100)


@pytest.fixture
def services(pg_status: Daemon) -> Iterator[list[Service]]:
    services = [Service(pg_status, driver) for driver in DRIVERS]
    yield services
    for service in services:
        service.cluster.close()


def bodies(cluster: Cluster) -> list[str]:
    return [body for (body,) in cluster.primary.sql("SELECT body FROM note ORDER BY body")]


def wait_until_unused(server: Server) -> None:
    """No session of the application remains, not even an idle one."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name IN ('threads', 'gunicorn')"
    wait_until(f"{server.address} is not used", lambda: server.sql(query) == [])


def durable(written: Iterable[tuple[str, str | None]], crashed: Server) -> set[str]:
    """Without those that may not have reached a replica before the crash."""
    return {body for body, host in written if host != crashed.address}


def commit_each(service: Service, body: str) -> None:
    db_session(service.master).execute(INSERT, {"body": body})
    commit_db_session(service.master)


def roll_back_errors(service: Service, body: str) -> None:
    try:
        commit_each(service, body)
    except Exception:
        rollback_db_session(service.master)
        raise


def atomic(service: Service, body: str) -> None:
    with atomic_db_session(service.master) as session:
        session.execute(INSERT, {"body": body})


@contextmanager
def running(loops: Iterable[Callable[[threading.Event], None]]) -> Iterator[None]:
    """Run each loop in a thread until the end of the block; it raises what a loop has raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(loop, stop) for loop in loops]
        try:
            yield
        finally:
            stop.set()
            for future in futures:
                future.result()


class Loop:
    """Writes in one context, through failovers; after each, only until the new master is known."""

    def __init__(self, failing: Cluster, service: Service, write: Write) -> None:
        self.failing = failing
        self.service = service
        self.write = write
        self.written: list[tuple[str, str | None]] = []
        self.states: list[str] = []
        self.over = threading.Event()

    def __call__(self, stop: threading.Event) -> None:
        run_in_new_ctx(self._run, stop)

    def _run(self, stop: threading.Event) -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            body = f"{self.service.driver} {self.write.__name__} {number:05}"
            is_known = self.over.is_set() and self.is_moved()
            try:
                self.write(self.service, body)
            except (DBAPIError, ClientError) as error:
                assert not is_known, "an error although the new master is in use"
                self.states.append(str(getattr(getattr(error, "orig", None), "sqlstate", "")))
            else:
                self.written.append((body, self.service.master.host))

    def is_moved(self) -> bool:
        return self.service.master.host == self.failing.primary.address


def test_loops_recover(failing: Cluster, services: list[Service]) -> None:
    writes = [commit_each, roll_back_errors, atomic]
    loops = [Loop(failing, service, write) for service in services for write in writes]
    with running(loops):
        wait_until("each loop has written", lambda: all(len(loop.written) > 3 for loop in loops))
        for failover in (switchover, crash):
            old = failing.primary
            failover(failing)
            for loop in loops:
                loop.over.set()
                before = len(loop.written)
                wait_until(
                    "it writes again",
                    lambda loop=loop, before=before: (  # type: ignore[misc]
                        loop.is_moved() and len(loop.written) > before + 5
                    ),
                )
            for loop in loops:
                loop.over.clear()
            if failover is switchover:
                wait_until_unused(old)
    for loop in loops:
        assert loop.states.count("25006") <= 20
        assert durable(loop.written, old) <= set(bodies(failing))


def test_an_idle_session_keeps_its_objects(failing: Cluster, services: list[Service]) -> None:
    """The session moves; a new one would leave the objects of the old one detached."""

    def through(service: Service) -> None:
        commit_each(service, f"{service.driver} before")
        session = db_session(service.master)
        ready.wait()
        over.wait()
        assert db_session(service.master) is session
        commit_each(service, f"{service.driver} after")
        assert service.master.host == failing.primary.address

    def knows(service: Service) -> bool:
        try:
            return service.cluster.client.master().host == failing.primary.address
        except ClientError:
            return False

    ready, over = threading.Barrier(3), threading.Event()
    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(run_in_new_ctx, through, service) for service in services]
        ready.wait()
        old = failing.primary
        switchover(failing)
        wait_until("the new master is known", lambda: all(knows(each) for each in services))
        # No session is created; the change itself has closed the pools.
        wait_until_unused(old)
        over.set()
        for future in futures:
            future.result()
    assert bodies(failing) == sorted(
        f"{driver} {when}" for driver in DRIVERS for when in ("before", "after")
    )


def test_a_request_whose_transaction_was_lost_is_no_success(
    cluster: Cluster, daemon: Daemon, driver: str
) -> None:
    """Even if the handler ignores the error and writes again, on the new connection."""
    service = Service(daemon, driver)
    cluster.primary.sql("TRUNCATE note")

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        session = db_session(service.master)
        session.execute(INSERT, {"body": "lost"})
        cluster.primary.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'threads'"
        )
        with pytest.raises(DBAPIError):
            session.execute(INSERT, {"body": "lost too"})
        db_session(service.master).execute(INSERT, {"body": "second"})
        start_response("200 OK", [])
        return [b"written"]

    server = WSGIServer(WSGIDBSessionMiddleware(app))
    with pytest.raises(PendingRollbackError):
        server.get()
    assert server.status == ""
    assert bodies(cluster) == []
    service.cluster.close()


def test_threads_that_wait_for_a_frozen_master_are_released(
    failing: Cluster, services: list[Service]
) -> None:
    """The stopped process keeps its connections, and its kernel acknowledges packets."""

    def through(service: Service) -> None:
        commit_each(service, f"{service.driver} before")
        db_session(service.master).execute(INSERT, {"body": "lost"})
        ready.wait()
        frozen.wait()
        with pytest.raises(DBAPIError):
            db_session(service.master).execute(INSERT, {"body": "lost"})
        rollback_db_session(service.master)
        commit_each(service, f"{service.driver} after")

    ready, frozen = threading.Barrier(3), threading.Event()
    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(run_in_new_ctx, through, service) for service in services]
        ready.wait()
        old, heir = failing.primary, failing.replicas[0]
        heir.wait_for(lambda: heir.lsn() >= old.lsn(), "is late")
        old.freeze()
        frozen.set()
        failing.promote(heir)
        try:
            for future in futures:
                future.result(20)
        finally:
            old.stop(signal.SIGKILL)
    assert bodies(failing) == sorted(
        f"{driver} {when}" for driver in DRIVERS for when in ("before", "after")
    )


def _content(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of the application, or the text of the server if the commit has failed."""
    is_json = answer.headers["Content-Type"] == "application/json"
    content: dict[str, Any] = answer.json() if is_json else {"error": answer.text}
    return content


class Users:
    """Clients of gunicorn that write and read without a pause."""

    def __init__(self, failing: Cluster, url: str) -> None:
        self.failing = failing
        self.url = url
        self.lock = threading.Lock()
        self.written: list[tuple[str, str]] = []
        self.errors: list[dict[str, Any]] = []
        self.moved: dict[str, set[int]] = {}

    def user(self, number: int) -> Callable[[threading.Event], None]:
        def loop(stop: threading.Event) -> None:
            with httpx.Client(base_url=self.url, timeout=30) as client:
                count = 0
                while not stop.wait(0.01):
                    count += 1
                    self.pair(client, f"{number} {count:05}")

        return loop

    def pair(self, client: httpx.Client, body: str) -> None:
        answer = client.post("/write", params={"body": body})
        content = _content(answer)
        with self.lock:
            if answer.status_code == 200:
                self.written.append((body, content["host"]))
                self.moved.setdefault(content["host"], set()).add(content["pid"])
            else:
                self.errors.append({"write": True, **content})
                return
        read = client.get(f"/read/{content['id']}")
        if read.status_code == 200:
            assert read.json()["body"] == body, "a stale read"
        else:
            self.errors.append(_content(read))

    def wait_for_workers(self) -> None:
        """Both processes have written on the current primary."""
        primary = self.failing.primary.address
        wait_until(
            lambda: f"{self.moved}, {self.errors[-3:]}",
            lambda: len(self.moved.get(primary, ())) == 2,
            30,
        )

    def wait_for_writes(self, count: int) -> None:
        before = len(self.written)
        wait_until("more is written", lambda: len(self.written) >= before + count, 30)


def test_gunicorn_under_load(
    failing: Cluster, pg_status: Daemon, network: Network, tmp_path: Path
) -> None:
    environment = {"SERVED": f"psycopg {pg_status.url}"}
    app = "tests.sqlalchemy.sync.served:app"
    log, address = tmp_path / "log", network.address(1)
    with Gunicorn(app, environment, log, address=address, workers=2, threads=4) as server:
        users = Users(failing, server.url)
        with running(users.user(number) for number in range(6)):
            users.wait_for_workers()
            for failover in (switchover, crash):
                old = failing.primary
                failover(failing)
                users.wait_for_workers()
                # Requests that had begun before have ended after these.
                users.wait_for_writes(20)
                errors = len(users.errors)
                users.wait_for_writes(30)
                assert users.errors[errors:] == [], "an error although the new master is in use"
            errors = len(users.errors)
            pg_status.process.send_signal(signal.SIGSTOP)
            users.wait_for_writes(30)
            pg_status.process.send_signal(signal.SIGCONT)
            pg_status.process.kill()
            pg_status.process.wait()
            users.wait_for_writes(30)
            pg_status.launch()
            wait_until("another process responds", pg_status.is_ready)
            users.wait_for_writes(30)
            assert users.errors[errors:] == []
    assert durable(users.written, old) <= set(bodies(failing))
