"""Fast tests: the service uses the test's transaction, which is rolled back at the end."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from examples.flask.database import Note, master, replica
from pgstatus.sqlalchemy.sync.test_utils import rolled_back_test_context


@pytest.fixture
def session(client: FlaskClient) -> Iterator[Session]:
    """The test's own session; reads of the service from replicas use its transaction too."""
    with rolled_back_test_context(master, replica) as session:
        yield session


def test_write(client: FlaskClient, session: Session) -> None:
    answer = client.post("/notes", query_string={"body": "hello"})
    assert answer.status_code == 200
    note = session.get(Note, answer.json["id"])  # type: ignore[index]
    assert note is not None
    assert note.body == "hello"


def test_read(client: FlaskClient, session: Session) -> None:
    session.add(note := Note(body="prepared"))
    session.flush()
    assert client.get(f"/notes/{note.id}").json["body"] == "prepared"  # type: ignore[index]
    assert client.get("/notes/0").status_code == 404


def test_concurrent_queries(client: FlaskClient, session: Session) -> None:
    session.add(Note(body="a"))
    session.commit()  # of a savepoint
    answer = client.get("/counts", query_string={"bodies": ["a", "b"]})
    assert answer.json == {"a": 1, "b": 0}


def test_other_tests_leave_no_rows(client: FlaskClient, session: Session) -> None:
    assert session.scalar(select(func.count()).select_from(Note)) == 0
