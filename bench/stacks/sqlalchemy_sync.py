"""pgstatus.sqlalchemy.sync: each operation is a request through the WSGI middlewares."""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import sessionmaker
from werkzeug.test import Client

from bench.stacks.stack import READ, WRITE, Place, Read
from pgstatus.client import PgStatusClient
from pgstatus.sqlalchemy.sync import (
    PgStatusCluster,
    WSGIDBSessionMiddleware,
    WSGIReadYourWritesMiddleware,
    db_session,
)

BOOKMARK = "X-Bookmark"
INSERT = text(WRITE.format(":value"))
SELECT = text(READ.format(":value"))


class SqlalchemySync:
    def __init__(self, place: Place) -> None:
        def engine(host: str, port: int) -> Engine:
            url = f"postgresql+psycopg://{place.user}:{place.password}@{host}:{port}/{place.dbname}"
            connecting = {"connect_timeout": 2}
            return create_engine(url, connect_args=connecting, pool_size=place.users)

        self._cluster = PgStatusCluster(PgStatusClient(place.url), engine, sessionmaker)
        self._master = self._cluster.master()
        self._replica = self._cluster.replica(lag_ms=place.lag_ms)
        application = WSGIDBSessionMiddleware(self._application)
        self._service = Client(
            WSGIReadYourWritesMiddleware(
                application, secret="bench", carrier="header", name=BOOKMARK
            ),
            use_cookies=False,
        )

    def _application(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        value = {"value": int(environ["QUERY_STRING"])}
        answer = ""
        if environ["REQUEST_METHOD"] == "POST":
            db_session(self._master).execute(INSERT, value)
        else:
            found, host = db_session(self._replica).execute(SELECT, value).one()
            answer = f"{found} {host}"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [answer.encode()]

    def write(self, value: int) -> Any:
        response = self._service.post("/", query_string=str(value))
        if response.status_code != 200:
            raise RuntimeError(response.text)  # the commit has failed
        return response.headers[BOOKMARK]

    def read(self, value: int, bookmark: Any) -> Read:
        response = self._service.get("/", query_string=str(value), headers={BOOKMARK: bookmark})
        found, host = response.text.split()
        return Read(found == "1", host)

    def close(self) -> None:
        self._cluster.close()


def open_stack(place: Place) -> SqlalchemySync:
    return SqlalchemySync(place)
