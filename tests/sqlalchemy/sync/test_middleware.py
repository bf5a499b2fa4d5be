"""One context per request, and the order of commit and response, seen by a WSGI server."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from flask import Blueprint, Flask, Response, abort, stream_with_context
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import Session
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from pgstatus.sqlalchemy.sync import (
    ContextNotInitiatedError,
    WSGIDBSessionMiddleware,
    atomic_db_session,
    close_db_session,
    commit_db_session,
    db_session,
    is_context_initiated,
    new_non_ctx_atomic_session,
    rollback_db_session,
    run_in_new_ctx,
)
from pgstatus.sqlalchemy.sync.wsgi import Environ, StartResponse, WSGIApp
from tests.sqlalchemy.conftest import INSERT
from tests.sqlalchemy.sync.conftest import Database

IDS = text("SELECT generate_series(1, 3)")


class Server:
    """What a WSGI server does, and what it has sent."""

    def __init__(self, app: WSGIApp) -> None:
        self.app = app
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def get(self, path: str = "/", **environ: Any) -> Iterable[bytes]:
        environ = {"PATH_INFO": path, "QUERY_STRING": "", **environ}
        setup_testing_defaults(environ)
        self.status = ""
        return self.app(environ, self._start)

    def body(self, path: str = "/", **environ: Any) -> bytes:
        result = self.get(path, **environ)
        try:
            return b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        return lambda data: None


def insert(database: Database, body: str) -> None:
    db_session(database.connect).execute(INSERT, {"body": body})


def complete(database: Database, status: str = "200 OK") -> WSGIApp:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        insert(database, "row")
        start_response(status, [("Content-Type", "text/plain")])
        return [b"written"]

    return app


def generated(database: Database, status: str = "200 OK") -> WSGIApp:
    """An application that starts its response with the first part of its body."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        insert(database, "row")
        start_response(status, [("Content-Type", "text/plain")])
        yield b"written"
        insert(database, "second row")
        yield b"written"

    return app


@pytest.mark.parametrize("app", [complete, generated])
def test_it_complies_with_wsgi(database: Database, app: Callable[..., WSGIApp]) -> None:
    checked = validator(WSGIDBSessionMiddleware(validator(app(database))))
    response = Client(checked).get("/")
    assert response.status_code == 200
    assert b"written" in response.data
    response.close()
    assert "row" in database.bodies()


def test_a_complete_response_is_committed_before_the_server_has_it(database: Database) -> None:
    server = Server(WSGIDBSessionMiddleware(complete(database)))
    body = server.get()
    assert database.bodies() == ["row"]
    assert server.status == "200 OK"
    assert list(body) == [b"written"]


def test_a_streamed_response_is_committed_after_its_last_part(database: Database) -> None:
    server = Server(WSGIDBSessionMiddleware(generated(database)))
    parts = iter(server.get())
    assert next(parts) == b"written"
    assert server.status == "200 OK"
    assert next(parts) == b"written"
    assert database.bodies() == []
    assert list(parts) == []
    assert database.bodies() == ["row", "second row"]
    parts.close()  # type: ignore[attr-defined]


def test_a_streamed_response_is_committed_before_its_first_part_on_request(
    database: Database,
) -> None:
    server = Server(WSGIDBSessionMiddleware(generated(database), commit_streamed="before"))
    parts = iter(server.get())
    assert next(parts) == b"written"
    assert database.bodies() == ["row"]
    assert list(parts) == [b"written"]
    parts.close()  # type: ignore[attr-defined]
    assert database.bodies() == ["row", "second row"]


@pytest.mark.parametrize("app", [complete, generated])
def test_an_error_status_rolls_back(database: Database, app: Callable[..., WSGIApp]) -> None:
    server = Server(WSGIDBSessionMiddleware(app(database, "409 Conflict")))
    server.body()
    assert server.status == "409 Conflict"
    assert database.bodies() == []


def test_a_client_that_disconnects_commits_nothing(database: Database) -> None:
    server = Server(WSGIDBSessionMiddleware(generated(database)))
    parts = iter(server.get())
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert database.bodies() == []


@pytest.mark.parametrize("where", ["call", "first part", "second part", "close"])
def test_an_error_rolls_back_and_is_passed_on(database: Database, where: str) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            insert(database, "from the body")
            if where == "first part":
                raise LookupError
            yield b"part"
            if where == "second part":
                raise LookupError
            yield b"part"

        def close(self) -> None:
            closed.append(is_context_initiated())
            insert(database, "when closed")
            if where == "close":
                raise LookupError

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        insert(database, "row")
        start_response("200 OK", [("Content-Type", "text/plain")])
        if where == "call":
            raise LookupError
        return Body()

    server = Server(WSGIDBSessionMiddleware(app))
    with pytest.raises(LookupError):
        server.body()
    assert closed == ([] if where == "call" else [True])
    assert database.bodies() == (["row", "from the body"] if where == "close" else [])
    assert server.status == ("" if where in {"call", "first part"} else "200 OK")
    assert not is_context_initiated()


def test_an_interrupt_closes_the_sessions(database: Database) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        insert(database, "row")
        raise SystemExit

    with pytest.raises(SystemExit):
        Server(WSGIDBSessionMiddleware(app)).body()
    assert database.bodies() == []
    assert database.in_use() == 0


def test_a_failed_commit_is_an_error_instead_of_a_response(database: Database) -> None:
    database.cluster.primary.sql("DROP TABLE IF EXISTS unique_later")
    database.cluster.primary.sql(
        "CREATE TABLE unique_later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    )
    twice = text("INSERT INTO unique_later VALUES (1), (1)")

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        db_session(database.connect).execute(twice)
        start_response("200 OK", [("Content-Length", "7")])
        return iter([b"written"])

    server = Server(WSGIDBSessionMiddleware(app))
    with pytest.raises(IntegrityError):
        server.get()
    assert server.status == ""


def test_an_aborted_transaction_is_no_success(database: Database) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        insert(database, "row")
        with pytest.raises(Exception, match="nothing"):
            db_session(database.connect).execute(text("SELECT * FROM nothing"))
        start_response("200 OK", [])
        return [b"written"]

    server = Server(WSGIDBSessionMiddleware(app))
    with pytest.raises(PendingRollbackError):
        server.get()
    assert server.status == ""


def test_the_write_function_of_wsgi(database: Database) -> None:
    """Its data is sent while the application runs, as a streamed response."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        insert(database, "row")
        write(b"first")
        assert server.status == "200 OK"
        return [b"second"]

    server = Server(WSGIDBSessionMiddleware(app))
    assert server.body() == b"second"
    assert database.bodies() == ["row"]


def test_a_file_is_sent_by_the_server(database: Database) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        insert(database, "row")
        start_response("200 OK", [("Content-Type", "text/plain")])
        file = open(__file__, "rb")  # noqa: PTH123, SIM115  the server closes it
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    server = Server(WSGIDBSessionMiddleware(app))
    environ: Environ = {"wsgi.file_wrapper": FileWrapper}
    body = server.get(**environ)
    assert isinstance(body, FileWrapper)
    assert database.bodies() == ["row"]
    body.close()


def test_nothing_remains_for_the_next_request_of_a_thread(database: Database) -> None:
    """Also if the response is never closed, or is continued by another thread."""
    variable: ContextVar[str] = ContextVar("variable", default="")

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        seen.append((variable.get(), is_context_initiated()))
        variable.set("a request's")
        start_response("200 OK", [("Content-Type", "text/plain")])
        insert(database, "row")
        yield b"part"
        assert variable.get() == "a request's"
        insert(database, "row")
        yield b"part"

    seen: list[tuple[str, bool]] = []
    server = Server(WSGIDBSessionMiddleware(app))
    first, second = iter(server.get()), iter(server.get())
    assert [next(first), next(second), next(second)] == [b"part"] * 3
    assert not is_context_initiated()
    continued = threading.Thread(target=lambda: list(second) and None)
    continued.start()
    continued.join()
    for each in (first, second):
        each.close()  # type: ignore[attr-defined]
    assert seen == [("", True)] * 2
    assert variable.get() == ""
    assert database.bodies() == ["row", "row"]


def test_a_thread_needs_a_context_of_its_own(database: Database) -> None:
    def thread(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def without() -> None:
        with pytest.raises(ContextNotInitiatedError):
            insert(database, "never")
        refused.append(True)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("409 Conflict", [])
        insert(database, "rolled back")
        thread(without)
        thread(lambda: run_in_new_ctx(insert, database, "beside"))
        context = copy_context()
        thread(lambda: context.run(run_in_new_ctx, insert, database, "in a copy"))
        outlives.append(copy_context())
        return [b""]

    refused: list[bool] = []
    outlives: list[Any] = []
    Server(WSGIDBSessionMiddleware(app)).body()
    assert database.bodies() == ["beside", "in a copy"]
    with pytest.raises(ContextNotInitiatedError, match="run_in_new_ctx"):
        outlives[0].run(insert, database, "after the request")
    assert refused == [True]


def test_the_functions_of_a_request(database: Database) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("409 Conflict", [])
        connect = database.connect
        insert(database, "committed")
        commit_db_session(connect)
        insert(database, "rolled back")
        rollback_db_session(connect)
        with atomic_db_session(connect) as session:
            session.execute(INSERT, {"body": "atomic"})
        before = db_session(connect)
        close_db_session(connect)
        assert db_session(connect) is not before
        with new_non_ctx_atomic_session(connect) as session:
            session.execute(INSERT, {"body": "outside"})
        with pytest.raises(LookupError):
            run_in_new_ctx(fails)
        insert(database, "rolled back by the status")
        return [b""]

    def fails() -> None:
        insert(database, "rolled back by the error")
        raise LookupError

    Server(WSGIDBSessionMiddleware(app)).body()
    assert database.bodies() == ["committed", "atomic", "outside"]


def test_before_commit_is_called_with_each_session(database: Database) -> None:
    seen: list[Session] = []
    app = WSGIDBSessionMiddleware(complete(database), seen.append)
    Server(app).body()
    assert len(seen) == 1


@pytest.fixture
def flask(database: Database) -> Flask:
    app = Flask(__name__)
    app.wsgi_app = WSGIDBSessionMiddleware(app.wsgi_app)  # type: ignore[method-assign]

    @app.post("/write/<int:status>")
    def write(status: int) -> tuple[str, int]:
        insert(database, "row")
        return "written", status

    @app.post("/abort")
    def abort_() -> str:
        insert(database, "row")
        abort(400)

    @app.post("/error")
    def error() -> str:
        insert(database, "row")
        raise LookupError

    @app.get("/stream")
    def stream() -> Response:
        insert(database, "before the body")
        ids = db_session(database.connect).execute(IDS).scalars()

        def body() -> Iterator[str]:
            for number in ids:
                yield f"{number} "
            insert(database, "in the body")

        return Response(stream_with_context(body()))

    @app.get("/callbacks")
    def callbacks() -> Response:
        response = Response("called back")
        response.call_on_close(lambda: insert(database, "on close"))
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        if is_context_initiated():
            insert(database, "teardown")

    blueprint = Blueprint("inner", __name__)

    @blueprint.post("/blueprint")
    def in_blueprint() -> str:
        insert(database, "row")
        return "written"

    app.register_blueprint(blueprint)
    return app


@pytest.mark.parametrize(
    ("path", "status", "rows"),
    [
        ("/write/200", 200, ["row", "teardown"]),
        ("/blueprint", 200, ["row", "teardown"]),
        ("/write/302", 302, ["row", "teardown"]),
        ("/write/422", 422, []),
        ("/abort", 400, []),
        ("/error", 500, []),
    ],
)
def test_flask(database: Database, flask: Flask, path: str, status: int, rows: list[str]) -> None:
    assert flask.test_client().post(path).status_code == status
    assert database.bodies() == rows


def test_an_error_that_flask_passes_on(database: Database, flask: Flask) -> None:
    flask.testing = True
    with pytest.raises(LookupError):
        flask.test_client().post("/error")
    assert database.bodies() == []


def test_a_body_that_flask_streams_from_a_cursor(database: Database, flask: Flask) -> None:
    assert flask.test_client().get("/stream").text == "1 2 3 "
    # Flask calls the teardown functions when the handler has returned, and after the body.
    assert database.bodies() == ["before the body", "teardown", "in the body", "teardown"]


def test_the_head_of_a_streamed_response(database: Database, flask: Flask) -> None:
    assert flask.test_client().head("/stream").status_code == 200
    assert database.bodies() == ["before the body", "teardown"]


def test_a_function_that_flask_calls_when_the_response_is_closed(
    database: Database, flask: Flask
) -> None:
    flask.test_client().get("/callbacks", buffered=True)
    assert database.bodies() == ["teardown", "on close"]


def test_flask_keeps_its_context_for_a_test(database: Database, flask: Flask) -> None:
    from flask import request  # noqa: PLC0415

    with flask.test_client() as client:
        assert client.post("/write/200").text == "written"
        assert request.path == "/write/200"
        assert not is_context_initiated()


def test_a_mounted_application_with_a_middleware_of_its_own(
    database: Database, flask: Flask
) -> None:
    """One context for both, ended by the outer one."""
    inner = WSGIDBSessionMiddleware(complete(database))

    def outer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        committed = database.bodies()
        insert(database, "outer")
        result: Iterable[bytes] = mounted(environ, start_response)
        assert database.bodies() == committed
        return result

    mounted: Any = DispatcherMiddleware(flask, {"/inner": inner})
    app = WSGIDBSessionMiddleware(outer)
    assert Client(app).post("/inner/x").status_code == 200
    assert Client(app).post("/write/200").status_code == 200
    assert database.bodies() == ["outer", "row", "outer", "row", "teardown"]


def test_an_application_that_calls_another_one(database: Database, flask: Flask) -> None:
    """A request of its own, with a context of its own."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        insert(database, "outer")
        assert flask.test_client().post("/write/422").status_code == 422
        assert flask.test_client().post("/write/200").status_code == 200
        start_response("200 OK", [])
        return [b""]

    Server(WSGIDBSessionMiddleware(app)).body()
    assert database.bodies() == ["outer", "row", "teardown"]
