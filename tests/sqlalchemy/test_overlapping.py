"""Positions only move forward, in whatever order responses arrive."""

import asyncio
import logging
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from pgstatus.bookmarks.bookmark import Marks, current_notes
from pgstatus.bookmarks.carrier import CookieCarrier, Header, Signer
from pgstatus.client import AsyncPgStatusClient
from pgstatus.demo.cluster import Cluster
from pgstatus.sqlalchemy import (
    Bookmark,
    PgStatusCluster,
    ReadYourWritesMiddleware,
    commit_db_session,
    db_session,
)
from pgstatus.sqlalchemy.asgi_utils import Receive, Scope, Send
from pgstatus.sqlalchemy.fastapi_utils import add_fastapi_http_db_session_middleware
from tests.sqlalchemy.conftest import INSERT, session_maker, url_of
from tests.sqlalchemy.test_read_your_writes import COUNT, Held
from tests.support.daemon import Daemon

pytestmark = pytest.mark.anyio


class Browser:
    """Keeps cookies as a browser does: by name, replaced and deleted by what arrives last."""

    def __init__(self, carrier: CookieCarrier) -> None:
        self.jar: dict[str, str] = {}
        self._carrier = carrier

    def receive(self, headers: list[Header]) -> None:
        for _, value in headers:
            cookies: SimpleCookie = SimpleCookie(value.decode())
            for name, morsel in cookies.items():
                if morsel["max-age"] == "0":
                    self.jar.pop(name, None)
                else:
                    self.jar[name] = morsel.value

    def send(self) -> tuple[Marks, list[bytes]]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        return self._carrier.brought([(b"cookie", cookie.encode())])


@pytest.fixture
def carrier() -> CookieCarrier:
    return CookieCarrier("pg-bookmark", Signer("the test's", 60), 60, secure=True)


def at(position: str, timeline: int = 1) -> Marks:
    return {"default": Bookmark(timeline, position)}


def test_a_late_response_does_not_replace_a_newer_position(carrier: CookieCarrier) -> None:
    browser = Browser(carrier)
    browser.receive(list(carrier.headers(at("0/50"), [])))
    brought, replaced = browser.send()
    slow = list(carrier.headers(at("0/100"), replaced))
    fast = list(carrier.headers(at("0/200"), replaced))
    assert brought == at("0/50")
    browser.receive(fast)
    browser.receive(slow)
    assert browser.send()[0] == at("0/200")
    # The next response replaces both by one that covers them.
    brought, replaced = browser.send()
    browser.receive(list(carrier.headers(brought, replaced)))
    assert len(browser.jar) == 1
    assert browser.send()[0] == at("0/200")


def test_a_replaced_cookie_is_always_covered(carrier: CookieCarrier) -> None:
    """A response from before the newest write deletes only what its own request brought."""
    browser = Browser(carrier)
    browser.receive(list(carrier.headers(at("0/100"), [])))
    brought, replaced = browser.send()
    browser.receive(list(carrier.headers(at("0/300"), [])))
    browser.receive(list(carrier.headers(brought, replaced)))
    assert browser.send()[0] == at("0/300")


def test_clusters_do_not_mix(carrier: CookieCarrier) -> None:
    browser = Browser(carrier)
    browser.receive(list(carrier.headers({"a": Bookmark(2, "0/10")}, [])))
    browser.receive(list(carrier.headers({"b": Bookmark(1, "9/0")}, [])))
    assert browser.send()[0] == {"a": Bookmark(2, "0/10"), "b": Bookmark(1, "9/0")}


def test_cookies_of_others_are_left_alone(carrier: CookieCarrier) -> None:
    other = CookieCarrier("pg-bookmark", Signer("another service's", 60), 60, secure=True)
    browser = Browser(carrier)
    browser.receive(list(other.headers(at("F/0"), [])))
    browser.jar["session"] = "x"
    assert browser.send() == ({}, [])


async def test_a_response_that_reads_replaces_many_cookies_by_one(carrier: CookieCarrier) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def nothing() -> dict[str, str]:
        return {"type": "http.disconnect"}

    received: list[Header] = []

    async def keep(message: dict[str, list[Header]]) -> None:
        received.extend(message.get("headers", []))

    middleware = ReadYourWritesMiddleware(app, secret="the test's")
    browser = Browser(carrier)
    for count in (5, 100):
        for number in range(count):
            browser.receive(list(carrier.headers(at(f"0/{number:x}"), [])))
        cookie = "; ".join(f"{name}={value}" for name, value in browser.jar.items())
        scope = {"type": "http", "headers": [(b"cookie", cookie.encode())]}
        await middleware(scope, nothing, keep)  # type: ignore[arg-type]
        browser.receive(received)
        assert len(browser.jar) == (5 if count == 5 else 1)
    assert browser.send()[0] == at("0/63")


class Service:
    """A write whose response is held back until the test releases it."""

    def __init__(self, url: str, driver: str, name: str = "default") -> None:
        self.committed = asyncio.Event()
        self.release = asyncio.Event()
        self.databases = PgStatusCluster(
            AsyncPgStatusClient(url, deadline=10.0),
            lambda host, port: create_async_engine(url_of(driver, host, port)),
            session_maker,
            name=name,
        )
        self.master = self.databases.master()
        self.replica = self.databases.replica()
        self.app = FastAPI()
        add_fastapi_http_db_session_middleware(self.app)
        self.app.add_middleware(ReadYourWritesMiddleware, secret="the test's")
        self.app.post("/write")(self.write)
        self.app.get("/read")(self.read)

    async def write(self, body: str, *, slow: bool = False) -> None:
        await (await db_session(self.master)).execute(INSERT, {"body": body})
        if slow:
            await commit_db_session(self.master)
            self.committed.set()
            await self.release.wait()

    async def read(self, body: str) -> dict[str, object]:
        session = await db_session(self.replica)
        return {"rows": await session.scalar(COUNT, {"body": body}), "host": self.replica.host}

    def user(self, scheme: str = "https") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://service")


@pytest.fixture
async def service(cluster: Cluster, daemon: Daemon, driver: str) -> AsyncIterator[Service]:
    cluster.primary.sql("TRUNCATE note")
    service = Service(daemon.url, driver)
    yield service
    await service.databases.close()


async def test_the_newer_of_two_overlapping_writes_is_read(
    cluster: Cluster, service: Service
) -> None:
    async with service.user() as user:
        slow = asyncio.create_task(user.post("/write", params={"body": "slow", "slow": "1"}))
        await service.committed.wait()
        with Held(cluster, cluster.replicas):  # the replicas have the slow one's write only
            await user.post("/write", params={"body": "fast"})
            service.release.set()
            await slow
            for body in ("fast", "slow"):
                answer = (await user.get("/read", params={"body": body})).json()
                assert answer["rows"] == 1, f"{body}: a stale read from {answer['host']}"
        assert len(user.cookies) == 2
        await user.post("/write", params={"body": "next"})
        assert len(user.cookies) == 1


async def test_workers_share_nothing_but_the_secret(
    cluster: Cluster, daemon: Daemon, service: Service, driver: str
) -> None:
    other = Service(daemon.url, driver)
    async with service.user() as user, other.user() as same_user:
        with Held(cluster, cluster.replicas):
            await user.post("/write", params={"body": "row"})
            same_user.cookies.update(user.cookies)
            answer = (await same_user.get("/read", params={"body": "row"})).json()
            assert answer == {"rows": 1, "host": cluster.primary.address}
    await other.databases.close()


async def test_a_secure_cookie_over_plain_http_is_reported_once(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pgstatus.sqlalchemy"):
        async with service.user("https") as user:
            await user.post("/write", params={"body": "tls"})
        async with service.user("http") as user:
            user.headers["X-Forwarded-Proto"] = "https"
            await user.post("/write", params={"body": "proxy"})
        assert not caplog.records
        for _ in range(2):
            async with service.user("http") as user:
                await user.post("/write", params={"body": "plain"})
    [record] = caplog.records
    assert "secure=False" in record.message


async def test_nested_middlewares_keep_one_set_of_notes(service: Service) -> None:
    seen = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_notes.get())
        await service.app(scope, receive, send)

    service.app.add_middleware(ReadYourWritesMiddleware, secret="the test's")
    app = ReadYourWritesMiddleware(inner, secret="the test's")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://service") as user:
        answer = await user.post("/write", params={"body": "row"})
        assert len(answer.headers.get_list("set-cookie")) == 1
