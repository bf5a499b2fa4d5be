"""Tests in which the service has its own sessions and commits them."""

from flask.testing import FlaskClient
from sqlalchemy import select

from examples.flask.database import Note, master
from pgstatus.sqlalchemy.sync import new_non_ctx_session


def committed() -> list[str]:
    with new_non_ctx_session(master) as session:
        return list(session.scalars(select(Note.body).order_by(Note.id)))


def test_the_routes(client: FlaskClient) -> None:
    assert "POST /notes" in client.get("/").json  # type: ignore[operator]


def test_a_client_reads_what_it_has_written(client: FlaskClient) -> None:
    for number in range(10):
        written = client.post("/notes", query_string={"body": number})
        assert written.headers["Set-Cookie"].startswith("pg-bookmark-")
        read = client.get(f"/notes/{written.json['id']}")  # type: ignore[index]
        assert read.json["body"] == str(number)  # type: ignore[index]


def test_atomic_part(client: FlaskClient) -> None:
    assert client.post("/atomic", query_string={"body": "kept"}).status_code == 409
    assert committed() == ["kept"]


def test_concurrent_queries(client: FlaskClient) -> None:
    for body in ("a", "b", "b"):
        client.post("/notes", query_string={"body": body})
    answer = client.get("/counts", query_string={"bodies": ["a", "b", "c"]})
    assert answer.json == {"a": 1, "b": 2, "c": 0}


def test_a_streamed_response(client: FlaskClient) -> None:
    for body in ("a", "b"):
        client.post("/notes", query_string={"body": body})
    lines = client.get("/notes").text.splitlines()
    assert [line.split()[1] for line in lines] == ["a", "b"]
