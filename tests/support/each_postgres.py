"""Fixtures for modules whose tests run with every PostgreSQL version:
``from tests.support.each_postgres import cluster_of_each, daemon_of_each``.
"""

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import POSTGRES, UNCHANGED, Daemons
from tests.support.clusters import Clusters
from tests.support.daemon import Daemon


@pytest.fixture(name="cluster", scope="session", params=POSTGRES)
def cluster_of_each(request: pytest.FixtureRequest, session_clusters: Clusters) -> Cluster:
    """Replaces `tests.conftest.cluster`."""
    return session_clusters.make(request.param)


# The daemon of `tests.conftest` monitors another cluster.
@pytest.fixture(name="daemon", scope="session")
def daemon_of_each(cluster: Cluster, session_daemons: Daemons) -> Daemon:
    """Replaces `tests.conftest.daemon`."""
    return session_daemons.start_in_sync(cluster, **UNCHANGED)
