"""A cluster that the tests of this package share, and applications with pools."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgstatus.demo.cluster import Cluster
from tests.client.conftest import server
from tests.conftest import Daemons
from tests.pools.application import KINDS, Application
from tests.support.clusters import Clusters
from tests.support.daemon import Daemon

__all__ = ["server"]

ApplicationFactory = Callable[..., Application]
TABLE = "CREATE TABLE note (value bigint PRIMARY KEY)"


@pytest.fixture(scope="package")
def cluster(session_clusters: Clusters) -> Cluster:
    """It keeps its primary; a test that stops something starts it again."""
    cluster = session_clusters.make()
    cluster.primary.sql(TABLE)
    return cluster


@pytest.fixture(scope="package")
def daemon(cluster: Cluster, session_daemons: Daemons) -> Daemon:
    return session_daemons.start_in_sync(cluster)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_application(kind: str) -> Iterator[ApplicationFactory]:
    """Open pools: ``make_application(daemon.url, max_size=2)``; they are closed after the test."""
    applications = []

    def make(url: str, **options: Any) -> Application:
        application = KINDS[kind]()
        application.open(url, **options)
        applications.append(application)
        return application

    yield make
    for application in applications:
        application.end()


@pytest.fixture
def application(make_application: ApplicationFactory, daemon: Daemon) -> Application:
    return make_application(daemon.url, max_size=4)
