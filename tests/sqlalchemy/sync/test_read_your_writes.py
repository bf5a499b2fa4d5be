"""What a client has written is read by its next request, while the replicas are behind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from pgstatus.client import PgStatusClient
from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy.sync import (
    PgStatusCluster,
    WSGIDBSessionMiddleware,
    WSGIReadYourWritesMiddleware,
    atomic_db_session,
    commit_db_session,
    db_session,
    new_non_ctx_atomic_session,
    submit_in_new_ctx,
    use_master,
)
from tests.sqlalchemy.conftest import INSERT, url_of
from tests.sqlalchemy.sync.conftest import session_maker
from tests.sqlalchemy.test_read_your_writes import COUNT, Held
from tests.support.daemon import Daemon


class Service:
    """A Flask application whose routes write in several ways, and read from a replica."""

    def __init__(self, daemon: Daemon, driver: str) -> None:
        self.driver = driver
        self.cluster = PgStatusCluster(
            PgStatusClient(daemon.url, deadline=10.0), self.engine, session_maker
        )
        self.master = self.cluster.master()
        self.replica = self.cluster.replica()
        self.app = Flask(__name__)
        self.routes()

    def engine(self, host: str, port: int) -> Engine:
        return create_engine(url_of(self.driver, host, port))

    def user(self, order: str = "around", **options: Any) -> FlaskClient:
        """A client of the application behind middlewares in this order."""
        app, options = Flask.wsgi_app.__get__(self.app), {"secret": "s", "secure": False, **options}
        if order == "around":
            app = WSGIReadYourWritesMiddleware(WSGIDBSessionMiddleware(app), **options)
        elif order == "inside":
            app = WSGIDBSessionMiddleware(WSGIReadYourWritesMiddleware(app, **options))
        elif order == "twice":
            inner = WSGIReadYourWritesMiddleware(WSGIDBSessionMiddleware(app), **options)
            mounted = DispatcherMiddleware(app, {"/inner": inner})
            app = WSGIReadYourWritesMiddleware(mounted, **options)
        self.app.wsgi_app = app  # type: ignore[method-assign]
        return self.app.test_client()

    def insert(self, body: str) -> None:
        db_session(self.master).execute(INSERT, {"body": body})

    def outside(self, body: str) -> None:
        with new_non_ctx_atomic_session(self.master) as session:
            session.execute(INSERT, {"body": body})

    def count(self, body: str) -> dict[str, Any]:
        rows = db_session(self.replica).execute(COUNT, {"body": body}).scalar()
        return {"rows": rows, "host": self.replica.host}

    def routes(self) -> None:
        @self.app.post("/write/<how>/<body>")
        def write(how: str, body: str) -> tuple[str, int]:
            match how:
                case "plain" | "refused":
                    self.insert(body)
                case "read-only":
                    db_session(self.master).execute(COUNT, {"body": body})
                case "by-hand":
                    self.insert(body)
                    commit_db_session(self.master)
                case "atomic":
                    with atomic_db_session(self.master) as session:
                        session.execute(INSERT, {"body": body})
                case "outside":
                    self.outside(body)
                case "engine":
                    engine = db_session(self.master).get_bind()
                    assert isinstance(engine, Engine)
                    with engine.begin() as connection:
                        connection.execute(INSERT, {"body": body})
                case "threads":
                    with ThreadPoolExecutor(4) as threads:
                        work = [submit_in_new_ctx(threads, self.insert, body) for _ in range(4)]
                    assert [each.result() for each in work] == [None] * 4
                case "error":
                    self.outside(body)
                    raise LookupError
                case "conflict":
                    self.outside(body)
                    return "written", 409
            return "written", 400 if how == "refused" else 200

        @self.app.post("/stream/<body>")
        def stream(body: str) -> Response:
            def parts() -> Iterator[str]:
                yield "written"
                self.insert(body)

            self.insert(body)
            return Response(parts())

        @self.app.get("/read/<body>")
        def read(body: str) -> dict[str, Any]:
            return self.count(body)

        @self.app.get("/newest/<body>")
        def newest(body: str) -> dict[str, Any]:
            use_master()
            return self.count(body)

        @self.app.post("/both/<body>")
        def both(body: str) -> dict[str, Any]:
            """The replica's session was opened before the write."""
            self.count(body)
            self.outside(body)
            return self.count(body)


@pytest.fixture
def service(cluster: Cluster, daemon: Daemon, driver: str) -> Iterator[Service]:
    cluster.primary.sql("TRUNCATE note")
    service = Service(daemon, driver)
    yield service
    service.cluster.close()


HOWS = ["plain", "by-hand", "atomic", "outside", "engine", "threads", "conflict"]


def test_a_write_is_read_on_the_master_while_the_replicas_are_behind(
    cluster: Cluster, service: Service
) -> None:
    users = {how: service.user() for how in HOWS}
    other = service.user()
    with Held(cluster, cluster.replicas):
        for how, user in users.items():
            answer = user.post(f"/write/{how}/{how}")
            assert len(answer.headers.getlist("Set-Cookie")) == 1, how
            read = user.get(f"/read/{how}").json
            assert read == {"rows": 4 if how == "threads" else 1, "host": cluster.primary.address}
        read = other.get("/read/plain").json
        assert read is not None
        assert read["rows"] == 0
        assert read["host"] != cluster.primary.address
        read = other.get("/newest/plain").json
        assert read == {"rows": 1, "host": cluster.primary.address}
        assert other.post("/both/both").json == {"rows": 1, "host": cluster.primary.address}
    hosts: set[str] = set()
    while hosts != {replica.address for replica in cluster.replicas}:
        read = users["plain"].get("/read/plain").json
        assert read is not None
        assert read["rows"] == 1, "a stale read"
        hosts = {*hosts, read["host"]} - {cluster.primary.address}


def test_a_request_that_writes_nothing_leaves_no_bookmark(service: Service) -> None:
    user = service.user()
    for how in ("read-only", "refused"):
        assert "Set-Cookie" not in user.post(f"/write/{how}/row").headers


def is_pinned(cluster: Cluster, user: FlaskClient, body: str) -> bool:
    """Whether the client reads from the master although the replicas have its write."""
    for replica in cluster.replicas:
        replica.wait_for(lambda r=replica: r.lsn() >= cluster.primary.lsn(), "is late")  # type: ignore[misc]
    hosts = {user.get(f"/read/{body}").json["host"] for _ in range(6)}  # type: ignore[index]
    return hosts == {cluster.primary.address}


@pytest.mark.parametrize("order", ["inside", "twice"])
def test_the_order_of_the_middlewares(cluster: Cluster, service: Service, order: str) -> None:
    """Inside, the position is known too late for the headers, so the client is pinned."""
    user = service.user(order)
    prefix = "/inner" if order == "twice" else ""
    with Held(cluster, cluster.replicas):
        answer = user.post(f"{prefix}/write/plain/row")
        assert len(answer.headers.getlist("Set-Cookie")) == 1
        assert user.get(f"{prefix}/read/row").json == {"rows": 1, "host": cluster.primary.address}
    if order == "inside":
        assert is_pinned(cluster, user, "row")


def test_a_streamed_response_pins_the_client(cluster: Cluster, service: Service) -> None:
    user = service.user()
    assert user.post("/stream/row").text == "written"
    assert user.get("/read/row").json["rows"] == 2  # type: ignore[index]
    assert is_pinned(cluster, user, "row")


def test_an_error_after_a_commit_is_a_response_with_the_bookmark(
    cluster: Cluster, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Flask responds to it itself, unless it is configured to pass errors on."""
    for passes_on in (False, True):
        service.app.config["PROPAGATE_EXCEPTIONS"] = passes_on
        user = service.user()
        with Held(cluster, cluster.replicas):
            answer = user.post("/write/error/row")
            assert answer.status_code == 500
            assert answer.headers["Set-Cookie"].startswith("pg-bookmark-")
            assert int(answer.headers["Content-Length"]) == len(answer.data)
            read = user.get("/read/row").json
            assert read == {"rows": 1 + passes_on, "host": cluster.primary.address}
    [record] = [each for each in caplog.records if each.name == "pgstatus.sqlalchemy"]
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


def test_the_header_of_a_program(cluster: Cluster, service: Service) -> None:
    user = service.user(carrier="header", name="X-Bookmark")
    with Held(cluster, cluster.replicas):
        marks = [user.post("/write/plain/row").headers["X-Bookmark"] for _ in range(2)]
        for headers in ({"X-Bookmark": marks[-1]}, {"X-Bookmark": ", ".join(marks)}):
            read = user.get("/read/row", headers=headers).json
            assert read == {"rows": 2, "host": cluster.primary.address}
        read = user.get("/read/row", headers={"X-Bookmark": "forged"}).json
        assert read is not None
        assert read["rows"] == 0


def test_cookies_of_parallel_requests_are_merged(service: Service) -> None:
    """The next write replaces them by one."""
    service.user()
    user = service.app.test_client(use_cookies=False)
    cookies = [
        service.user().post("/write/plain/row").headers["Set-Cookie"].partition(";")[0]
        for _ in range(3)
    ]
    answer = user.post("/write/plain/row", headers={"Cookie": "; ".join(cookies)})
    [new, *deleted] = answer.headers.getlist("Set-Cookie")
    assert sorted(each.partition("=")[0] for each in deleted) == sorted(
        each.partition("=")[0] for each in cookies
    )
    assert all("Max-Age=0" in each for each in deleted)
    assert "Max-Age=60" in new


def test_nothing_is_noted_outside_of_a_request(service: Service) -> None:
    client = Client(WSGIDBSessionMiddleware(Flask.wsgi_app.__get__(service.app)))
    assert client.post("/write/plain/row").status_code == 200
