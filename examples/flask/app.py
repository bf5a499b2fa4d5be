"""A small service whose routes show how the sessions are used; ``README.md`` starts it."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, Response, abort, request, stream_with_context
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from examples.flask.database import Note, create_tables, master, replica
from pgstatus.client import ClientError
from pgstatus.sqlalchemy.sync import (
    WSGIDBSessionMiddleware,
    WSGIReadYourWritesMiddleware,
    atomic_db_session,
    commit_db_session,
    db_session,
    submit_in_new_ctx,
    use_master,
)

SECRET = os.environ.get("BOOKMARK_SECRET", "only for the demo")

app = Flask(__name__)
app.wsgi_app = WSGIDBSessionMiddleware(app.wsgi_app)  # type: ignore[method-assign]
# Applied last, so it is around the session middleware. `secure=False`: the demo has no TLS.
app.wsgi_app = WSGIReadYourWritesMiddleware(  # type: ignore[method-assign]
    app.wsgi_app, secret=SECRET, secure=False
)
app.cli.command("create-tables")(create_tables)
threads = ThreadPoolExecutor(4)


@app.errorhandler(DBAPIError)
@app.errorhandler(ClientError)
@app.errorhandler(PoolTimeoutError)
def unavailable(error: Exception) -> tuple[dict[str, str], int, dict[str, str]]:
    """The database or pg-status is unavailable, as in a failover: the client may retry."""
    return {"error": type(error).__name__}, 503, {"Retry-After": "1"}


@app.errorhandler(HTTPException)
def described(error: HTTPException) -> tuple[dict[str, Any], int]:
    return {"error": error.description}, error.code or 500


@app.get("/")
def routes() -> list[str]:
    """The routes of this service."""
    return sorted(
        f"{method} {rule}"
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    )


@app.post("/notes")
def write() -> dict[str, Any]:
    """The middleware commits before the response, which brings the bookmark.

    With ``late`` the response follows that many seconds after the commit.
    """
    note = add(request.args["body"])
    if late := request.args.get("late", 0.0, float):
        commit_db_session(master)
        time.sleep(late)
    return {"id": note.id, "host": master.host}


@app.get("/notes/<int:note_id>")
def read(note_id: int) -> dict[str, Any]:
    """From a replica that has what this client has written, or from the master."""
    if "newest" in request.args:
        use_master()
    note = db_session(replica).get(Note, note_id)
    if note is None:
        abort(404)
    return {"id": note.id, "body": note.body, "host": replica.host}


@app.get("/notes")
def export() -> Response:
    """A streamed response; the session is open until its last line has been sent."""
    notes = db_session(replica).scalars(
        select(Note).order_by(Note.id).execution_options(yield_per=100)
    )

    def lines() -> Iterator[str]:
        for note in notes:
            yield f"{note.id} {note.body}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.post("/atomic")
def atomic() -> dict[str, Any]:
    """A part that is committed regardless of the rest."""
    with atomic_db_session(master):
        note = add(request.args["body"])
    add("never committed")
    abort(409, f"only {note.id} was kept")


@app.get("/counts")
def counts() -> dict[str, int]:
    """Concurrent queries: each thread has a context with a connection of its own."""
    bodies = request.args.getlist("bodies")
    found = [submit_in_new_ctx(threads, count, body) for body in bodies]
    return {body: each.result() for body, each in zip(bodies, found, strict=True)}


def add(body: str) -> Note:
    """Code without a parameter for the session, which is in the context."""
    note = Note(body=body)
    session = db_session(master)
    session.add(note)
    session.flush()
    return note


def count(body: str) -> int:
    select_count = select(func.count()).where(Note.body == body)
    return db_session(replica).scalar(select_count) or 0
