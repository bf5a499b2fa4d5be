"""The application that ``servers.py`` starts under a real ASGI server.

``SERVED`` is ``MIDDLEWARE DRIVER HOST PORT``. Each route inserts rows
named by the query parameter ``name``.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pgstatus.sqlalchemy import (
    ASGIHTTPDBSessionMiddleware,
    DBConnect,
    commit_db_session,
    db_session,
    is_context_initiated,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.fastapi_utils import add_fastapi_http_db_session_middleware
from pgstatus.sqlalchemy.starlette_utils import (
    StarletteHTTPDBSessionMiddleware,
    starlette_http_db_session_middleware,
)
from tests.sqlalchemy.conftest import INSERT, session_maker, url_of

MIDDLEWARE, DRIVER, HOST, PORT = os.environ["SERVED"].split()

connect = DBConnect(
    lambda host: create_async_engine(url_of(DRIVER, host, int(PORT)), pool_size=20),
    session_maker,
    host=HOST,
)


async def insert(body: str) -> None:
    await (await db_session(connect)).execute(INSERT, {"body": body})


async def write(request: Request) -> Response:
    """Insert after the body has been read, then respond after ``pause`` seconds."""
    data = await request.body()
    await insert(f"{request.query_params['name']} {len(data)}")
    await asyncio.sleep(float(request.query_params.get("pause", 0)))
    return PlainTextResponse("written", int(request.query_params.get("status", 200)))


async def early(request: Request) -> Response:
    """Commit, then insert something that the status rolls back."""
    await insert(request.query_params["name"])
    await commit_db_session(connect)
    await insert("never committed")
    return PlainTextResponse("early", 409)


async def beside(request: Request) -> Response:
    """Insert in the request's session and in contexts of their own."""
    name = request.query_params["name"]
    await insert(name)
    await asyncio.gather(*(run_in_new_ctx(insert, f"{name} beside") for _ in range(2)))
    return PlainTextResponse("written")


async def background(request: Request) -> Response:
    name = request.query_params["name"]
    await insert(name)
    return PlainTextResponse("written", background=BackgroundTask(insert, f"{name} background"))


async def stream(request: Request) -> Response:
    name = request.query_params["name"]
    await insert(name)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"chunk"
            await asyncio.sleep(0)

    return StreamingResponse(body())


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(str(is_context_initiated()))
    await websocket.close()


def with_middleware(app: Starlette, kind: str) -> Starlette:
    match kind:
        case "asgi":
            app.add_middleware(ASGIHTTPDBSessionMiddleware)
        case "starlette":
            app.add_middleware(StarletteHTTPDBSessionMiddleware)
        case "dispatch":
            app.add_middleware(
                BaseHTTPMiddleware, dispatch=partial(starlette_http_db_session_middleware)
            )
        case "fastapi":
            assert isinstance(app, FastAPI)
            add_fastapi_http_db_session_middleware(app)
    return app


ROUTES = [
    Route("/write", write, methods=["POST"]),
    Route("/early", early, methods=["POST"]),
    Route("/beside", beside, methods=["POST"]),
    Route("/background", background, methods=["POST"]),
    Route("/stream", stream, methods=["POST"]),
    WebSocketRoute("/socket", socket),
]


async def alive(request: Request) -> Response:
    return PlainTextResponse("alive")


mounted = with_middleware(Starlette(routes=ROUTES), "dispatch" if MIDDLEWARE == "asgi" else "asgi")
routes = [*ROUTES, Mount("/mounted", mounted), Route("/", alive)]
app = with_middleware(
    FastAPI(routes=routes) if MIDDLEWARE == "fastapi" else Starlette(routes=routes), MIDDLEWARE
)
