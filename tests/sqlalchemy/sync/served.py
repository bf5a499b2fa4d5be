"""The Flask application that gunicorn serves. ``SERVED`` is ``DRIVER URL_OF_PG_STATUS``."""

import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request, stream_with_context
from sqlalchemy import Engine, create_engine, text

from pgstatus.client import PgStatusClient
from pgstatus.sqlalchemy.sync import (
    PgStatusCluster,
    WSGIDBSessionMiddleware,
    WSGIReadYourWritesMiddleware,
    db_session,
    is_context_initiated,
    new_non_ctx_session,
)
from tests.sqlalchemy.conftest import url_of
from tests.sqlalchemy.sync.conftest import session_maker

DRIVER, URL = os.environ["SERVED"].split()
INSERT = text("INSERT INTO note (body) VALUES (:body) RETURNING id")
SELECT = text("SELECT body FROM note WHERE id = :id")
SERVER = text("SELECT host(inet_server_addr())")


def engine_for(host: str, port: int) -> Engine:
    return create_engine(url_of(DRIVER, host, port), connect_args={"application_name": "gunicorn"})


cluster = PgStatusCluster(PgStatusClient(URL, deadline=10.0), engine_for, session_maker)
master = cluster.master()
replica = cluster.replica()
with new_non_ctx_session(master) as session:
    # With --preload, in the parent: its connection must not be used by its children.
    session.execute(text("SELECT 1"))

app = Flask(__name__)
app.wsgi_app = WSGIDBSessionMiddleware(app.wsgi_app)  # type: ignore[method-assign]
app.wsgi_app = WSGIReadYourWritesMiddleware(  # type: ignore[method-assign]
    app.wsgi_app, secret="s", secure=False
)


@app.get("/")
def alive() -> str:
    return "alive"


@app.post("/write")
def write() -> tuple[dict[str, Any], int]:
    session = db_session(master)
    number = session.execute(INSERT, {"body": request.args["body"]}).scalar()
    host = session.execute(SERVER).scalar()
    return {"id": number, "pid": os.getpid(), "host": host}, request.args.get("status", 200, int)


@app.get("/read/<int:number>")
def read(number: int) -> dict[str, Any]:
    session = db_session(replica)
    body = session.execute(SELECT, {"id": number}).scalar()
    return {"body": body, "host": session.execute(SERVER).scalar(), "pid": os.getpid()}


@app.post("/stream")
def stream() -> Response:
    db_session(master).execute(INSERT, {"body": request.args["body"]})

    def body() -> Iterator[str]:
        yield "first "
        if request.args.get("fails"):
            db_session(master).execute(text("SELECT 1 / 0"))
        yield "last"

    return Response(stream_with_context(body()))


@app.errorhandler(Exception)
def failed(error: Exception) -> tuple[dict[str, Any], int]:
    return {"pid": os.getpid(), "error": repr(error)}, 503


def leaked(environ: dict[str, Any], start_response: Any) -> Any:
    """Outside of all middlewares: what remains in the thread of the server."""
    assert not is_context_initiated()
    return app(environ, start_response)
