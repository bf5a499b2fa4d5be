"""A small service whose routes show how the sessions are used; ``README.md`` starts it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from examples.fastapi.database import Note, cluster, create_tables, master, replica
from examples.fastapi.retry import retried
from pgstatus.client import ClientError
from pgstatus.sqlalchemy import (
    ReadYourWritesMiddleware,
    atomic_db_session,
    commit_db_session,
    db_session,
    run_in_new_ctx,
    use_master,
)
from pgstatus.sqlalchemy.fastapi_utils import add_fastapi_http_db_session_middleware

SECRET = os.environ.get("BOOKMARK_SECRET", "only for the demo")

Body = Annotated[str, Query(max_length=200)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await create_tables()
    yield
    await cluster.close()


app = FastAPI(title="Notes", lifespan=lifespan)
add_fastapi_http_db_session_middleware(app)
# Added last, so it is around the session middleware. `secure=False`: the demo has no TLS.
app.add_middleware(ReadYourWritesMiddleware, secret=SECRET, secure=False)


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    """The database or pg-status is unavailable, as in a failover: the client may retry."""
    return JSONResponse({"error": type(error).__name__}, 503, {"Retry-After": "1"})


for kind in (DBAPIError, ClientError, ConnectionError, TimeoutError, PoolTimeoutError):
    app.add_exception_handler(kind, unavailable)


@app.post("/notes")
async def write(body: Body, late: float = 0) -> dict[str, Any]:
    """The middleware commits before the response, which brings the bookmark.

    With ``late`` the response follows that many seconds after the commit.
    """
    note = await add(body)
    if late:
        await commit_db_session(master)
        await asyncio.sleep(late)
    return {"id": note.id, "host": master.host}


@app.get("/notes/{note_id}")
async def read(note_id: int, newest: bool = False) -> dict[str, Any]:
    """From a replica that has what this client has written, or from the master."""
    if newest:
        use_master()
    session = await db_session(replica)
    note = await session.get(Note, note_id)
    if note is None:
        raise HTTPException(404)
    return {"id": note.id, "body": note.body, "host": replica.host}


@app.post("/early-commit")
async def early_commit(body: Body) -> dict[str, Any]:
    """Commit in the handler, before slow work that needs no database."""
    note = await add(body)
    await commit_db_session(master)  # the connection is in its pool again
    await asyncio.sleep(0)
    return {"id": note.id}


@app.post("/atomic")
async def atomic(body: Body) -> dict[str, Any]:
    """A part that is committed regardless of the rest."""
    async with atomic_db_session(master):
        note = await add(body)
    await add("never committed")
    raise HTTPException(409, detail=f"only {note.id} was kept")


@app.post("/patient")
async def patient(body: Body) -> dict[str, Any]:
    """A whole transaction that is repeated while a failover is in progress."""

    async def transaction() -> int:
        async with atomic_db_session(master):
            return (await add(body)).id

    return {"id": await retried(transaction)}


@app.get("/counts")
async def counts(bodies: Annotated[list[str], Query()]) -> dict[str, int]:
    """Concurrent queries, each in a context with a connection of its own."""
    found = await asyncio.gather(*(run_in_new_ctx(count, body) for body in bodies))
    return dict(zip(bodies, found, strict=True))


async def add(body: str) -> Note:
    """Code without a parameter for the session, which is in the context."""
    session = await db_session(master)
    note = Note(body=body)
    session.add(note)
    await session.flush()
    return note


async def count(body: str) -> int:
    session = await db_session(replica)
    return await session.scalar(select(func.count()).where(Note.body == body)) or 0
