"""A small service whose routes show how the companion is used; ``README.md`` starts it."""

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
from pgstatus.client import ClientError
from pgstatus.sqlalchemy import (
    ReadYourWritesMiddleware,
    atomic_db_session,
    commit_db_session,
    db_session,
    run_in_new_ctx,
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
# Added last, so it is around the session middleware. `secure=False`: the demo is not on HTTPS.
app.add_middleware(ReadYourWritesMiddleware, secret=SECRET, secure=False)


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    """The database or pg-status is not there, as in a failover: the client may try again."""
    return JSONResponse({"error": type(error).__name__}, 503, {"Retry-After": "1"})


for kind in (DBAPIError, ClientError, ConnectionError, TimeoutError, PoolTimeoutError):
    app.add_exception_handler(kind, unavailable)


@app.post("/notes")
async def write(body: Body) -> dict[str, Any]:
    """Plain use: the middleware commits before the answer, and the answer brings the bookmark."""
    note = await add(body)
    return {"id": note.id, "host": master.host}


@app.get("/notes/{note_id}")
async def read(note_id: int) -> dict[str, Any]:
    """From a replica that has what this client has written, or from the master."""
    session = await db_session(replica)
    note = await session.get(Note, note_id)
    if note is None:
        raise HTTPException(404)
    return {"id": note.id, "body": note.body, "host": replica.host}


@app.post("/early-commit")
async def early_commit(body: Body) -> dict[str, Any]:
    """Commit by hand, where something slow follows that needs no database."""
    note = await add(body)
    await commit_db_session(master)  # the connection is back in its pool from here on
    await asyncio.sleep(0)
    return {"id": note.id}


@app.post("/atomic")
async def atomic(body: Body) -> dict[str, Any]:
    """A part that is committed whatever becomes of the rest."""
    async with atomic_db_session(master):
        note = await add(body)
    await add("never committed")
    raise HTTPException(409, detail=f"only {note.id} was kept")


@app.get("/counts")
async def counts(bodies: Annotated[list[str], Query()]) -> dict[str, int]:
    """Queries side by side, each in a context and so with a connection of its own."""
    found = await asyncio.gather(*(run_in_new_ctx(count, body) for body in bodies))
    return dict(zip(bodies, found, strict=True))


async def add(body: str) -> Note:
    """Code without a parameter for the session: it is in the context."""
    session = await db_session(master)
    note = Note(body=body)
    session.add(note)
    await session.flush()
    return note


async def count(body: str) -> int:
    session = await db_session(replica)
    return await session.scalar(select(func.count()).where(Note.body == body)) or 0
