"""pgstatus.sqlalchemy: each operation is a request through the ASGI middlewares."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from bench.stacks.stack import READ, WRITE, Place, Read
from pgstatus.client import AsyncPgStatusClient
from pgstatus.sqlalchemy import (
    ASGIHTTPDBSessionMiddleware,
    PgStatusCluster,
    ReadYourWritesMiddleware,
    db_session,
)
from pgstatus.sqlalchemy.asgi_utils import Message, Receive, Scope, Send

BOOKMARK = "x-bookmark"
INSERT = text(WRITE.format(":value"))
SELECT = text(READ.format(":value"))


class SqlalchemyAsync:
    def __init__(self, place: Place) -> None:
        def engine(host: str, port: int) -> AsyncEngine:
            url = f"postgresql+asyncpg://{place.user}:{place.password}@{host}:{port}/{place.dbname}"
            return create_async_engine(url, connect_args={"timeout": 2}, pool_size=place.users)

        self._cluster = PgStatusCluster(AsyncPgStatusClient(place.url), engine, async_sessionmaker)
        self._master = self._cluster.master()
        self._replica = self._cluster.replica(lag_ms=place.lag_ms)
        application = ASGIHTTPDBSessionMiddleware(self._application)
        self._service = ReadYourWritesMiddleware(
            application, secret="bench", carrier="header", name=BOOKMARK
        )

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        value = {"value": int(scope["path"][1:])}
        answer = ""
        if scope["method"] == "POST":
            await (await db_session(self._master)).execute(INSERT, value)
        else:
            session = await db_session(self._replica)
            found, host = (await session.execute(SELECT, value)).one()
            answer = f"{found} {host}"
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.encode()})

    async def _request(self, method: str, value: int, bookmark: str) -> tuple[str, str]:
        """The bookmark and the body of the response."""
        headers = [(BOOKMARK.encode(), bookmark.encode())] if bookmark else []
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": f"/{value}", "headers": headers,
            "scheme": "https",
        }  # fmt: skip
        await self._service(scope, receive, send)
        start, body = sent
        return dict(start["headers"]).get(BOOKMARK.encode(), b"").decode(), body["body"].decode()

    async def write(self, value: int) -> Any:
        bookmark, _ = await self._request("POST", value, "")
        return bookmark

    async def read(self, value: int, bookmark: Any) -> Read:
        _, answer = await self._request("GET", value, bookmark)
        found, host = answer.split()
        return Read(found == "1", host)

    async def close(self) -> None:
        await self._cluster.close()


async def open_stack(place: Place) -> SqlalchemyAsync:
    return SqlalchemyAsync(place)
