"""A real cluster and its pg-status, and the example project configured for it in this process."""

from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.db import connections

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.django.requests import Browser
from tests.support.clusters import Clusters
from tests.support.daemon import Daemon


@pytest.fixture(scope="session")
def cluster(session_clusters: Clusters) -> Cluster:
    """A cluster to write to, with two databases."""
    cluster = session_clusters.make()
    cluster.primary.sql("CREATE DATABASE users")
    return cluster


@pytest.fixture(scope="session")
def daemon(cluster: Cluster, session_daemons: Daemons) -> Daemon:
    """A daemon that monitors this cluster, not the one of other tests."""
    return session_daemons.start_in_sync(cluster)


@pytest.fixture(scope="session")
def project(cluster: Cluster, daemon: Daemon) -> Iterator[None]:
    """The example project, with its tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PG_STATUS_URL", daemon.url)
        patch.setenv("DJANGO_SETTINGS_MODULE", "tests.django.settings")
        django.setup()
        for alias in ("default", "users"):
            call_command("migrate", database=alias, verbosity=0)
    # The variables are not left to the tests of other directories.
    yield
    connections.close_all()


@pytest.fixture
def notes(project: None, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The model of the example; its table is empty, and no connection is open."""
    # For the commands that a test starts.
    monkeypatch.setenv("PG_STATUS_URL", daemon.url)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.django.settings")
    from examples.django.notes.models import Note  # noqa: PLC0415  # after django.setup()

    Note.objects.all().delete()
    connections.close_all()
    yield Note
    connections.close_all()


@pytest.fixture
def browser(notes: Any) -> Browser:
    return Browser()
