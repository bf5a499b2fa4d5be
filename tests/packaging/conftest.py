"""Debian machines for the installation of packages, and a cluster outside of them."""

import os
from collections.abc import Iterator

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Clusters
from tests.packaging.machine import Machine

SUITES = os.environ.get("PGSTATUS_TEST_SUITES", "bookworm,trixie").split(",")


@pytest.fixture(scope="module", params=SUITES)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A new machine; the tests of a module modify it in their order."""
    with Machine(request.param, tmp_path_factory.mktemp("machine") / "console") as machine:
        yield machine


@pytest.fixture(scope="session")
def outside(session_clusters: Clusters) -> Cluster:
    """A primary and two replicas on this machine."""
    return session_clusters.make()
