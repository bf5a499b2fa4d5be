"""For modules whose tests are to run against every PostgreSQL, not against the newest alone:
``from tests.support.each_postgres import cluster_of_each``.
"""

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import POSTGRES, Clusters


@pytest.fixture(name="cluster", scope="session", params=POSTGRES)
def cluster_of_each(request: pytest.FixtureRequest, session_clusters: Clusters) -> Cluster:
    """Takes the place of `tests.conftest.cluster`, also for its daemon."""
    return session_clusters.make(request.param)
