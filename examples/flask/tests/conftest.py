"""The service under test, on a real cluster with its pg-status."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete
from tests.support.daemon import Daemon

from examples.flask import database
from examples.flask.app import app
from examples.flask.database import Note
from pgstatus.client import PgStatusClient
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from pgstatus.sqlalchemy.sync import new_non_ctx_atomic_session


@pytest.fixture(scope="package")
def pg_status() -> Iterator[str]:
    """The URL of a pg-status that monitors a primary and a replica."""
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pg-status-")))
        addresses = [network.address(last) for last in (2, 3)]
        cluster = Cluster(bundled("18"), directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        cluster.start()
        variables = {
            "hosts": ",".join(addresses),
            "pg_port": cluster.primary.port,
            "sleep_ms": 100,
        }
        log, address = directory / "daemon.log", network.address(1)
        port = free_port([address], 8000)
        yield undo.enter_context(Daemon(log, variables, address=address, port=port)).url


@pytest.fixture
def client(pg_status: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """A client of the service; its table is empty."""
    monkeypatch.setattr(database.cluster, "client", PgStatusClient(pg_status))
    database.create_tables()
    with new_non_ctx_atomic_session(database.master) as session:
        session.execute(delete(Note))
    yield app.test_client()
    database.cluster.close()
