"""A client reads what it has written, from replicas, and a forged bookmark has no effect.

One pg-status, one primary and two real replicas, whose replay is paused where it matters.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pgstatus.bookmarks.bookmark import Notes, current_notes
from pgstatus.bookmarks.carrier import HeaderCarrier, Signer
from pgstatus.client import AsyncPgStatusClient, NoHostError, SplitBrainError, parse_lsn
from pgstatus.demo.cluster import Cluster, Server
from pgstatus.sqlalchemy import (
    ASGIHTTPDBSessionMiddleware,
    Bookmark,
    PgStatusCluster,
    ReadYourWritesMiddleware,
    atomic_db_session,
    commit_db_session,
    db_session,
    new_non_ctx_atomic_session,
    new_non_ctx_session,
)
from pgstatus.sqlalchemy.fastapi_utils import add_fastapi_http_db_session_middleware
from tests.sqlalchemy.conftest import INSERT, session_maker, url_of
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio

COUNT = text("SELECT count(*) FROM note WHERE body = :body")


class Service:
    """A small web service on the cluster. Its responses contain the host that was read from."""

    def __init__(
        self, cluster: Cluster, url: str, driver: str, *, middlewares: str = "as documented"
    ) -> None:
        self.port = cluster.primary.port
        self.driver = driver
        self.engine_options: dict[str, Any] = {}
        client = AsyncPgStatusClient(url, deadline=10.0)
        self.databases = PgStatusCluster(client, self.engine, session_maker)
        self.master = self.databases.master()
        self.replica = self.databases.replica()
        self.app = FastAPI()
        self.routes()
        options: dict[str, Any] = {"secret": "the test's", "pin_seconds": 0.5}
        match middlewares:
            case "inside out":
                self.app.add_middleware(ReadYourWritesMiddleware, **options)
                add_fastapi_http_db_session_middleware(self.app)
            case "committing after a stream":
                self.app.add_middleware(ASGIHTTPDBSessionMiddleware)
                self.app.add_middleware(ReadYourWritesMiddleware, **options)
            case _:
                add_fastapi_http_db_session_middleware(self.app)
                self.app.add_middleware(ReadYourWritesMiddleware, **options)

    def engine(self, host: str, port: int) -> AsyncEngine:
        return create_async_engine(url_of(self.driver, host, port), **self.engine_options)

    def routes(self) -> None:
        @self.app.post("/write")
        async def write(body: str, how: str = "plain", status: int = 200) -> Response:
            session = await db_session(self.master)
            match how:
                case "plain":
                    await session.execute(INSERT, {"body": body})
                case "read only":
                    await session.execute(COUNT, {"body": body})
                case "by hand":
                    await session.execute(INSERT, {"body": body})
                    await commit_db_session(self.master)
                case "atomic":
                    async with atomic_db_session(self.master) as session:
                        await session.execute(INSERT, {"body": body})
                case "savepoint":
                    async with session.begin_nested():
                        await session.execute(INSERT, {"body": body})
                case "outside":
                    async with new_non_ctx_atomic_session(self.master) as session:
                        await session.execute(INSERT, {"body": body})
                case "aside":
                    await asyncio.gather(*(self.outside(f"{body}{n}") for n in range(3)))
                    await session.execute(INSERT, {"body": body})
            return Response(status_code=status)

        @self.app.post("/stream")
        async def stream(body: str) -> StreamingResponse:
            async def chunks() -> AsyncIterator[bytes]:
                session = await db_session(self.master)
                await session.execute(INSERT, {"body": body})
                yield b"written"

            # The transaction is open when the headers go.
            await (await db_session(self.master)).execute(COUNT, {"body": body})
            return StreamingResponse(chunks())

        @self.app.get("/read")
        async def read(body: str) -> dict[str, Any]:
            session = await db_session(self.replica)
            rows = (await session.execute(COUNT, {"body": body})).scalar()
            return {"rows": rows, "host": self.replica.host}

    async def outside(self, body: str) -> None:
        async with new_non_ctx_atomic_session(self.master) as session:
            await session.execute(INSERT, {"body": body})

    def user(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="https://service"
        )


@pytest.fixture
async def service(cluster: Cluster, daemon: Daemon, driver: str) -> AsyncIterator[Service]:
    cluster.primary.sql("TRUNCATE note")
    service = Service(cluster, daemon.url, driver)
    yield service
    await service.databases.close()


class Held:
    """The replay of the replicas, paused for a block of a test."""

    def __init__(self, cluster: Cluster, replicas: tuple[Server, ...]) -> None:
        self._cluster = cluster
        self._replicas = replicas

    def __enter__(self) -> None:
        for replica in self._replicas:
            replica.wait_for(lambda r=replica: r.lsn() >= self._cluster.primary.lsn(), "is late")  # type: ignore[misc]
            replica.sql("SELECT pg_wal_replay_pause()")
            replica.wait_for(lambda r=replica: _paused(r), "is not paused")  # type: ignore[misc]

    def __exit__(self, *_: object) -> None:
        for replica in self._replicas:
            replica.sql("SELECT pg_wal_replay_resume()")


def _paused(replica: Server) -> bool:
    [(version,)] = replica.sql("SELECT current_setting('server_version_num')::int")
    if version < 14_00_00:  # it has no function for it; the next record is not replayed
        return replica.sql("SELECT pg_is_wal_replay_paused()") == [(True,)]
    return replica.sql("SELECT pg_get_wal_replay_pause_state()") == [("paused",)]


async def test_the_position_before_the_commit_does_not_cover_it(
    cluster: Cluster, service: Service
) -> None:
    """Why the position is taken after the commit: a stale read although ``lsn >= min_lsn``."""
    position = text("SELECT pg_current_wal_insert_lsn()::text")
    replica = cluster.replicas[0]
    notes = Notes({}, 10)
    token = current_notes.set(notes)
    async with new_non_ctx_session(service.master) as session:
        await session.execute(INSERT, {"body": "row"})
        before = parse_lsn((await session.execute(position)).scalar_one())
        # The commit of another session flushes the WAL up to there, and the replica replays it.
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'another session')")
        with Held(cluster, (replica,)):
            assert replica.lsn() >= before
            await session.commit()
            after = parse_lsn(notes.marks["default"].lsn)
            assert replica.sql("SELECT count(*) FROM note") == [(0,)], "past it, without the row"
            assert before <= replica.lsn() < after
    replica.wait_for(lambda: replica.lsn() >= after, "is late")
    assert replica.sql("SELECT count(*) FROM note") == [(1,)]
    current_notes.reset(token)


@pytest.mark.parametrize("how", ["plain", "by hand", "atomic", "savepoint", "outside", "aside"])
async def test_a_write_is_read_on_the_master_while_the_replicas_are_behind(
    cluster: Cluster, service: Service, how: str
) -> None:
    async with service.user() as user, service.user() as other_user:
        with Held(cluster, cluster.replicas):
            await user.post("/write", params={"body": "row", "how": how})
            assert len(user.cookies) == 1
            answer = (await user.get("/read", params={"body": "row"})).json()
            assert answer == {"rows": 1, "host": cluster.primary.address}
            answer = (await other_user.get("/read", params={"body": "row"})).json()
            assert answer["rows"] == 0
            assert answer["host"] != cluster.primary.address
        async with asyncio.timeout(10):
            while answer["rows"] == 0 or answer["host"] == cluster.primary.address:
                answer = (await user.get("/read", params={"body": "row"})).json()
                assert answer["rows"] == 1, "a stale read"


@pytest.mark.parametrize(
    "params", [{"how": "read only"}, {"how": "plain", "status": "400"}], ids=["read", "rolled back"]
)
async def test_no_bookmark_without_a_write(service: Service, params: dict[str, str]) -> None:
    async with service.user() as user:
        await user.post("/write", params={"body": "row", **params})
        assert not user.cookies


async def test_the_attributes_of_the_cookie(service: Service) -> None:
    async with service.user() as user:
        answer = await user.post("/write", params={"body": "row"})
        attributes = answer.headers["set-cookie"].split("; ")[1:]
        assert set(attributes) == {
            "Path=/", "Max-Age=60", "HttpOnly", "SameSite=Lax", "Secure",
        }  # fmt: skip


@pytest.mark.parametrize("forgery", ["text", "signature", "age", "absent position"])
async def test_a_forged_bookmark_is_ignored(
    cluster: Cluster, service: Service, forgery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = {"default": Bookmark(1, "FFFFFFFF/FFFFFFFF")}
    match forgery:
        case "text":
            cookie = "1:FFFFFFFF/FFFFFFFF"
        case "signature":
            cookie = Signer("mine", 60).sign(far)
        case "age":
            with monkeypatch.context() as patch:
                patch.setattr("itsdangerous.timed.time.time", lambda: 1_000_000_000)
                cookie = Signer("the test's", 60).sign(far)
        case _:
            cookie = "."
    assert Signer("the test's", 60).read(cookie.encode()) is None
    async with service.user() as user:
        user.cookies.set("pg-bookmark", cookie)
        answer = (await user.get("/read", params={"body": "row"})).json()
        assert answer["host"] != cluster.primary.address


async def test_a_header_instead_of_a_cookie(service: Service) -> None:
    carrier = HeaderCarrier("X-Bookmark", Signer(["old", "new"], 60))
    marks = {"a": Bookmark(3, "1/0"), "b": Bookmark(4, "2/A0")}
    [header] = carrier.headers(marks, [])
    assert header[0] == b"x-bookmark"
    assert carrier.brought([header]) == (marks, [])
    signed_before = HeaderCarrier("X-Bookmark", Signer("old", 60)).headers(marks, [])
    assert carrier.brought(list(signed_before)) == (marks, [])
    # A client with parallel requests sends what it has received in any order.
    [newer] = carrier.headers({"a": Bookmark(3, "9/0")}, [])
    both = (b"x-bookmark", newer[1] + b", " + header[1])
    assert carrier.brought([both])[0] == {**marks, "a": Bookmark(3, "9/0")}
    with pytest.raises(ValueError, match="secret"):
        ReadYourWritesMiddleware(service.app, secret="")


@pytest.mark.parametrize(
    ("middlewares", "path"),
    [("inside out", "/write"), ("committing after a stream", "/stream")],
    ids=["inside out", "stream"],
)
async def test_a_position_that_comes_too_late_pins_to_the_master(
    cluster: Cluster, daemon: Daemon, driver: str, middlewares: str, path: str
) -> None:
    service = Service(cluster, daemon.url, driver, middlewares=middlewares)
    async with service.user() as user:
        with Held(cluster, cluster.replicas):
            body = f"pinned {middlewares} {driver}"
            await user.post(path, params={"body": body})
            answer = (await user.get("/read", params={"body": body})).json()
            assert answer == {"rows": 1, "host": cluster.primary.address}
    await service.databases.close()


async def test_an_autocommit_engine_is_covered(cluster: Cluster, service: Service) -> None:
    service.engine_options = {"isolation_level": "AUTOCOMMIT"}
    async with service.user() as user:
        with Held(cluster, cluster.replicas):
            await user.post("/write", params={"body": "row"})
            answer = (await user.get("/read", params={"body": "row"})).json()
            assert answer == {"rows": 1, "host": cluster.primary.address}


async def test_a_position_counts_on_its_timeline(cluster: Cluster, service: Service) -> None:
    """After a failover a replica of the old timeline can be past the number without the row."""

    async def reads_with(timeline: int) -> str | None:
        token = current_notes.set(Notes({"default": Bookmark(timeline, "0/1")}, 10))
        try:
            await service.replica.session_maker()
        finally:
            current_notes.reset(token)
        return service.replica.host

    assert await reads_with(1) in {replica.address for replica in cluster.replicas}
    # This pg-status does not know timeline 2 yet: its master is not the one written to.
    with pytest.raises(NoHostError):
        await reads_with(2)


async def test_a_split_brain_is_an_error(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client may still have a master cached from before it, which is not used instead."""
    client = service.databases.client
    await client.master()

    async def refuse(**limits: object) -> None:
        # The moment of pg-status's response cannot be timed against the client's cache.
        raise SplitBrainError(["pg1:5432", "pg2:5432"], "split brain")

    monkeypatch.setattr(client, "replica", refuse)
    token = current_notes.set(Notes({"default": Bookmark(1, "0/1")}, 10))
    try:
        with pytest.raises(SplitBrainError):
            await service.replica.session_maker()
    finally:
        current_notes.reset(token)


def test_bookmarks_merge_to_the_one_that_covers_both() -> None:
    old, new = Bookmark(1, "9/0"), Bookmark(2, "8/0")
    assert old.merged(new) == new.merged(old) == new
    assert Bookmark(2, "A/0").merged(new) == Bookmark(2, "A/0")
    pinned = Bookmark(pinned_until=5.0)
    assert pinned.merged(new) == Bookmark(2, "8/0", 5.0)
    assert not pinned.is_pinned()


async def test_pairs_of_write_and_read(cluster: Cluster, service: Service) -> None:
    """The short form of ``python -m bench.client_pairs``."""
    hosts: Counter[str] = Counter()

    async def pairs(name: str) -> None:
        async with service.user() as user:
            for number in range(20):
                body = f"{name} {number}"
                await user.post("/write", params={"body": body})
                answer = (await user.get("/read", params={"body": body})).json()
                assert answer["rows"] == 1, f"a stale read from {answer['host']}"
                hosts[answer["host"]] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(pairs(f"user {number}"))
    assert hosts.total() == 100
