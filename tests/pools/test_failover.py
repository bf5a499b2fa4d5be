"""The pools of all drivers during a failover, and while the primary does not respond."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from pgstatus.client import NoHostError
from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, Daemons
from tests.pools.application import KINDS, Application
from tests.pools.conftest import TABLE
from tests.support.daemon import Daemon
from tests.support.switchover import switch_over
from tests.support.waiting import wait_until

numbers = count()


class Service(threading.Thread):
    """Writes and reads its writes, until five pairs have succeeded after the failover."""

    def __init__(self, application: Application, cluster: Cluster, over: threading.Event) -> None:
        super().__init__()
        self.application = application
        self.cluster = cluster
        self.over = over
        self.written: list[int] = []
        self.after: list[int] = []
        self.errors: list[Exception] = []
        self.late_errors: list[Exception] = []
        self.missing: list[int] = []

    def has_written(self) -> bool:
        return len(self.written) > 3

    def run(self) -> None:
        known = False
        for value in numbers:
            over = self.over.is_set()
            try:
                with self.application.master() as connection:
                    address = connection.address()
                    mark = connection.write(value)
                self.written.append(value)
                with self.application.replica(after=mark) as connection:
                    if not connection.has(value):
                        self.missing.append(value)
            except Exception as error:
                (self.late_errors if known else self.errors).append(error)
                if len(self.errors) > 10_000 or self.late_errors:
                    return
                continue
            if over:
                assert address == self.cluster.primary.address
                known = True
                self.after.append(value)
            if len(self.after) >= 5:
                return


def crash(cluster: Cluster) -> None:
    cluster.fail_over()


@pytest.fixture
def failing(make_cluster: ClusterFactory) -> Cluster:
    cluster = make_cluster()
    cluster.primary.sql(TABLE)
    return cluster


@pytest.fixture
def monitor(failing: Cluster, daemons: Daemons) -> Daemon:
    return daemons.start_in_sync(failing)


@pytest.fixture
def applications(monitor: Daemon) -> Iterator[list[Application]]:
    """One of each kind, with one connection per host."""
    with ExitStack() as undo:
        applications = [kind() for kind in KINDS.values()]
        for application in applications:
            application.open(monitor.url, max_size=1)
            undo.callback(application.end)
        yield applications


def test_failovers(failing: Cluster, applications: list[Application]) -> None:
    """Writes fail until the new master is in use, and not afterwards; each read sees its write."""
    for failover in (switch_over, crash):
        over = threading.Event()
        services = [Service(application, failing, over) for application in applications]
        for service in services:
            service.start()
        for service in services:
            wait_until("it writes", service.has_written)
        failover(failing)
        over.set()
        for service in services:
            service.join(60)
            assert not service.is_alive()
        found = {value for (value,) in failing.primary.sql("SELECT value FROM note")}
        for service in services:
            assert not service.late_errors
            assert len(service.after) == 5
            # What the primary has committed when it crashes may not have reached a replica.
            assert set(service.after if failover is crash else service.written) <= found
            assert not set(service.missing) & set(service.after)


def test_a_primary_that_does_not_respond(
    failing: Cluster, monitor: Daemon, applications: list[Application]
) -> None:
    """Callers that wait for one of its connections get one of the new master."""
    old = failing.primary
    addresses: list[str] = []

    def wait(application: Application) -> None:
        with application.master(timeout=60) as connection:
            addresses.append(connection.address())

    waiting = [threading.Thread(target=wait, args=(each,)) for each in applications]
    with ExitStack() as held:
        for application in applications:
            held.enter_context(application.master())
        for thread in waiting:
            thread.start()
        old.freeze()
        try:
            wait_until("no master is reported", lambda: not monitor.text("/master"))
            for application in applications:
                with pytest.raises(NoHostError), application.master(timeout=60):
                    pass
            failing.promote(failing.replicas[0])
            for thread in waiting:
                thread.join(30)
            assert addresses == [failing.primary.address] * len(applications)
            held.close()  # does not wait for the old primary
        finally:
            old.thaw()
