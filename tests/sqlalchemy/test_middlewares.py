"""The middlewares on a real database: when they commit, roll back and close."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from pgstatus.sqlalchemy import (
    ASGIHTTPDBSessionMiddleware,
    commit_db_session,
    db_session,
    is_context_initiated,
    rollback_db_session,
)
from pgstatus.sqlalchemy.asgi_utils import ASGIApp
from pgstatus.sqlalchemy.fastapi_utils import (
    add_fastapi_http_db_session_middleware,
    fastapi_http_db_session_middleware,
)
from pgstatus.sqlalchemy.starlette_utils import (
    StarletteHTTPDBSessionMiddleware,
    add_starlette_http_db_session_middleware,
    starlette_http_db_session_middleware,
)
from pgstatus.sqlalchemy.test_utils import set_test_context
from tests.sqlalchemy.conftest import INSERT, Database, until

pytestmark = pytest.mark.anyio

Setup = Callable[..., ASGIApp]


@pytest.fixture
def driver() -> str:
    """One is enough: middlewares use sessions, which are tested with every driver."""
    return "asyncpg"


Handlers = dict[Any, Any]


def pure_asgi(
    routes: list[Any], exception_handlers: Handlers | None = None, **options: Any
) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers=exception_handlers)
    app.add_middleware(ASGIHTTPDBSessionMiddleware, **options)
    return app


def starlette_add(
    routes: list[Any], exception_handlers: Handlers | None = None, **options: Any
) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers=exception_handlers)
    add_starlette_http_db_session_middleware(app, **options)
    return app


def starlette_dispatch(
    routes: list[Any], exception_handlers: Handlers | None = None, **options: Any
) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers=exception_handlers)
    dispatch = partial(starlette_http_db_session_middleware, **options)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    return app


class Subclassed(StarletteHTTPDBSessionMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await super().dispatch(request, call_next)
        response.headers["x-subclassed"] = "yes"
        return response


def starlette_subclass(
    routes: list[Any], exception_handlers: Handlers | None = None, **options: Any
) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers=exception_handlers)
    app.add_middleware(Subclassed, **options)
    return app


def fastapi_add(
    routes: list[Any], exception_handlers: Handlers | None = None, **options: Any
) -> ASGIApp:
    app = FastAPI(routes=routes, exception_handlers=exception_handlers)
    add_fastapi_http_db_session_middleware(app, **options)
    return app


def fastapi_dispatch(
    routes: list[Any], exception_handlers: Handlers | None = None, **options: Any
) -> ASGIApp:
    app = FastAPI(routes=routes, exception_handlers=exception_handlers)
    dispatch = partial(fastapi_http_db_session_middleware, **options)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    return app


ALL = [
    pure_asgi,
    starlette_add,
    starlette_dispatch,
    starlette_subclass,
    fastapi_add,
    fastapi_dispatch,
]
# These commit what a body or a background task has begun; the others roll it back.
WHOLE = [pure_asgi, starlette_add, fastapi_add]


class Exchange:
    """One request: the order of its messages and of the database's events."""

    def __init__(self, database: Database) -> None:
        self.log: list[str] = []
        self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: BaseException | None = None
        self.goes_away_after_body = False
        engine = database.connect._engine
        assert engine is not None
        for name in ("commit", "rollback"):
            event.listen(engine.sync_engine, name, lambda _, name=name: self.log.append(name))

    async def get(self, app: ASGIApp, path: str, kind: str = "http") -> "Exchange":
        scope = {
            "type": kind,
            "path": path,
            "raw_path": path.encode(),
            "method": "GET",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"test")],
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "http_version": "1.1",
            "asgi": {"version": "3.0"},
        }
        gone = asyncio.Event()
        messages = [
            {"type": "http.request", "body": b"", "more_body": False}
            if kind == "http"
            else {"type": "websocket.connect"}
        ]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.log.append(str(message["status"]))
                self.headers = message["headers"]
            elif message["type"] == "http.response.body":
                self.body += message.get("body", b"")
                if self.goes_away_after_body:
                    gone.set()

        try:
            await app(scope, receive, send)
        except Exception as error:
            self.error = error
        assert not is_context_initiated()
        return self


Endpoint = Callable[[Request], Awaitable[Response]]


@pytest.fixture
async def exchange(database: Database) -> Exchange:
    await database.connect.session_maker()
    return Exchange(database)


def route(endpoint: Endpoint) -> list[Any]:
    return [Route("/", endpoint)]


async def insert(database: Database, body: str) -> None:
    await (await db_session(database.connect)).execute(INSERT, {"body": body})


def endpoint(database: Database, status: int = 200) -> Endpoint:
    async def inserts(request: Request) -> Response:
        await insert(database, "row")
        return PlainTextResponse("answer", status)

    return inserts


@pytest.mark.parametrize("setup", ALL)
async def test_committed_before_the_answer(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    await exchange.get(setup(route(endpoint(database))), "/")
    assert exchange.log == ["commit", "200"]
    assert exchange.body == b"answer"
    assert database.bodies() == ["row"]
    assert ((b"x-subclassed", b"yes") in exchange.headers) == (setup is starlette_subclass)


@pytest.mark.parametrize("setup", ALL)
@pytest.mark.parametrize("status", [400, 404, 500])
async def test_rolled_back_by_status(
    database: Database, exchange: Exchange, setup: Setup, status: int
) -> None:
    await exchange.get(setup(route(endpoint(database, status))), "/")
    assert exchange.log == ["rollback", str(status)]
    assert database.bodies() == []


@pytest.mark.parametrize("setup", ALL)
async def test_rolled_back_by_an_exception(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    async def fails(request: Request) -> Response:
        await insert(database, "row")
        raise LookupError("the application's")

    await exchange.get(setup(route(fails)), "/")
    assert isinstance(exchange.error, LookupError)
    assert exchange.log == ["rollback", "500"]
    assert database.bodies() == []


@pytest.mark.parametrize("setup", ALL)
async def test_a_failed_commit_is_not_reported_as_success(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    async def violates_at_commit(request: Request) -> Response:
        session = await db_session(database.connect)
        await session.execute(
            text("CREATE TEMP TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
        await session.execute(text("INSERT INTO t VALUES (1), (1)"))
        return PlainTextResponse("all is well")

    async def handler(request: Request, error: Exception) -> Response:
        raise AssertionError("for the framework, the response has started")

    app = setup(route(violates_at_commit), exception_handlers={IntegrityError: handler})
    await exchange.get(app, "/")
    assert "duplicate key" in str(exchange.error)
    assert exchange.log[-1] == "500"
    assert "all is well" not in exchange.body.decode()


@pytest.mark.parametrize("setup", ALL)
async def test_before_commit_comes_before(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    async def before_commit(session: AsyncSession) -> None:
        exchange.log.append("before commit")

    app = setup(route(endpoint(database)), before_commit=before_commit)
    await exchange.get(app, "/")
    assert exchange.log == ["before commit", "commit", "200"]


@pytest.mark.parametrize("setup", [pure_asgi, starlette_add, starlette_dispatch])
async def test_by_hand_in_the_handler(database: Database, exchange: Exchange, setup: Setup) -> None:
    async def by_hand(request: Request) -> Response:
        await insert(database, "committed")
        await commit_db_session(database.connect)
        await insert(database, "rolled back")
        await rollback_db_session(database.connect)
        return PlainTextResponse("answer", 500)

    await exchange.get(setup(route(by_hand)), "/")
    assert database.bodies() == ["committed"]


def streaming(database: Database, *, fails: bool = False) -> Endpoint:
    async def streams(request: Request) -> Response:
        await insert(database, "handler")

        async def body() -> AsyncIterator[bytes]:
            yield b"first "
            await insert(database, "body")
            if fails:
                raise LookupError("in the middle of the answer")
            yield b"last"

        return StreamingResponse(body())

    return streams


async def test_a_stream_of_the_asgi_middleware_is_committed_after_it(
    database: Database, exchange: Exchange
) -> None:
    await exchange.get(pure_asgi(route(streaming(database))), "/")
    assert exchange.log == ["200", "commit"]
    assert exchange.body == b"first last"
    assert database.bodies() == ["handler", "body"]


async def test_a_stream_may_read_from_the_handlers_cursor(
    database: Database, exchange: Exchange
) -> None:
    async def streams(request: Request) -> Response:
        session = await db_session(database.connect)
        rows = await session.stream(text("SELECT generate_series(1, 3)"))

        async def body() -> AsyncIterator[str]:
            async for (number,) in rows:
                yield f"{number} "

        return StreamingResponse(body())

    await exchange.get(pure_asgi(route(streams)), "/")
    assert exchange.body == b"1 2 3 "


@pytest.mark.parametrize(
    "setup",
    [partial(pure_asgi, commit_streamed="before"), starlette_add, fastapi_add],
    ids=["pure_asgi before", "starlette_add", "fastapi_add"],
)
async def test_a_stream_is_committed_before_it(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    await exchange.get(setup(route(streaming(database))), "/")
    assert exchange.log == ["commit", "200", "commit"]
    assert database.bodies() == ["handler", "body"]


@pytest.mark.parametrize("setup", [starlette_dispatch, starlette_subclass, fastapi_dispatch])
async def test_a_dispatch_function_rolls_back_what_the_stream_wrote(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    await exchange.get(setup(route(streaming(database))), "/")
    assert exchange.log[:2] == ["commit", "200"]
    assert database.bodies() == ["handler"]


@pytest.mark.parametrize("setup", ALL)
async def test_an_exception_after_the_answer_began(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    await exchange.get(setup(route(streaming(database, fails=True))), "/")
    assert isinstance(exchange.error, LookupError)
    assert exchange.body.startswith(b"first ")
    # What the client has a response for is committed, unless the stream belongs to it.
    assert database.bodies() == ([] if setup is pure_asgi else ["handler"])


@pytest.mark.parametrize("setup", WHOLE)
async def test_a_client_that_goes_away(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    async def streams(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            await insert(database, "body")
            yield b"first"
            await asyncio.sleep(60)
            yield b"last"

        return StreamingResponse(body())

    exchange.goes_away_after_body = True
    await exchange.get(setup(route(streams)), "/")
    assert exchange.body == b"first"
    assert database.bodies() == []


def with_background(database: Database) -> Endpoint:
    async def answers(request: Request) -> Response:
        await insert(database, "handler")
        task = BackgroundTask(insert, database, "background")
        return PlainTextResponse("answer", background=task)

    return answers


@pytest.mark.parametrize("setup", WHOLE)
async def test_a_background_task(database: Database, exchange: Exchange, setup: Setup) -> None:
    await exchange.get(setup(route(with_background(database))), "/")
    assert exchange.log == ["commit", "200", "commit"]
    assert database.bodies() == ["handler", "background"]


@pytest.mark.parametrize("setup", [starlette_dispatch, starlette_subclass, fastapi_dispatch])
async def test_a_background_task_outlives_a_dispatch_function(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    with pytest.warns(RuntimeWarning, match="run_in_new_ctx"):
        await exchange.get(setup(route(with_background(database))), "/")
    await until(lambda: database.in_use() == 0)
    assert database.bodies() == ["handler"]


@pytest.mark.parametrize("setup", ALL)
async def test_websockets_have_no_context(
    database: Database, exchange: Exchange, setup: Setup
) -> None:
    seen = []

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        seen.append(is_context_initiated())
        await websocket.close()

    app = setup([WebSocketRoute("/", socket)])
    await exchange.get(app, "/", kind="websocket")
    assert exchange.error is None
    assert seen == [False]


@pytest.mark.parametrize("setup", ALL)
async def test_a_test_context_is_used(database: Database, exchange: Exchange, setup: Setup) -> None:
    async with set_test_context():
        session = await db_session(database.connect)
        await setup(route(endpoint(database)))(
            {"type": "http", "path": "/", "method": "GET", "headers": []},
            _nothing,
            _ignore,
        )
        assert session.in_transaction()
        await session.close()
    assert exchange.log == ["rollback"]
    assert database.bodies() == []


async def _nothing() -> Any:
    await asyncio.sleep(60)


async def _ignore(_: Any) -> None:
    pass


async def test_concurrent_requests(database: Database, exchange: Exchange) -> None:
    """Each has its own session, in whatever order they begin and end."""
    sessions = set()
    all_are_there = asyncio.Barrier(12)

    async def handler(request: Request) -> Response:
        session = await db_session(database.connect)
        await insert(database, "row")
        sessions.add(id(session))
        async with asyncio.timeout(20):
            await all_are_there.wait()
        assert await db_session(database.connect) is session
        return PlainTextResponse("answer")

    app = starlette_add(route(handler))
    await asyncio.gather(*(Exchange(database).get(app, "/") for _ in range(12)))
    assert len(sessions) == 12
    assert database.bodies() == ["row"] * 12


async def test_a_task_that_outlives_its_request(database: Database, exchange: Exchange) -> None:
    """It may use a session, with a warning, and its connection is returned."""
    over = asyncio.Event()
    tasks = []

    async def late() -> None:
        await over.wait()
        await insert(database, "committed")
        await commit_db_session(database.connect)
        await insert(database, "not committed")

    async def handler(request: Request) -> Response:
        tasks.append(asyncio.create_task(late()))
        return PlainTextResponse("answer")

    await exchange.get(starlette_add(route(handler)), "/")
    over.set()
    with pytest.warns(RuntimeWarning, match="run_in_new_ctx"):
        await tasks[0]
    await until(lambda: database.in_use() == 0)
    assert database.bodies() == ["committed"]
