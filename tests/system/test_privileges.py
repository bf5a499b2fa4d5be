"""A role with LOGIN is enough; what it may not read is unavailable, and nothing else."""

import pytest

from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.waiting import wait_until


@pytest.mark.parametrize("grants", ["", "GRANT pg_monitor TO watcher"])
def test_login_and_pg_monitor(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory, grants: str
) -> None:
    cluster = make_cluster()
    cluster.primary.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    if grants:
        cluster.primary.sql("GRANT pg_monitor TO watcher")
    daemon = make_daemon(cluster, pg_user="watcher", pg_password="watcher")
    replica = cluster.replicas[0]
    wait_until("in sync", lambda: daemon.host(replica.address)["sync_by_time"])
    assert daemon.text("/master") == cluster.primary.address
    assert daemon.host(cluster.primary.address)["timeline"] == 1
    assert daemon.host(replica.address)["timeline"] == (1 if grants else None)
    hint = f"{replica.address}:{replica.port}: may not read pg_stat_wal_receiver"
    assert daemon.log.count(hint) == (0 if grants else 1)
    assert daemon.log.count("may not read pg_stat_replication") == (0 if grants else 1)

    lost = cluster.fail_over()
    wait_until("the failover", lambda: daemon.text("/master") == cluster.primary.address)
    (other,) = cluster.replicas_without(lost)
    wait_until("the other replica follows", lambda: daemon.host(other.address)["sync_by_time"])


def test_a_database_in_sql_ascii(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    primary = make_cluster(replicas=0).primary
    primary.sql("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    daemon = make_daemon(hosts=f"{primary.address}:{primary.port}", pg_database="ascii")
    assert daemon.text("/master") == primary.address


def test_control_functions_that_were_revoked(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    cluster.primary.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    cluster.primary.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    daemon = make_daemon(cluster, pg_user="watcher", pg_password="watcher")
    assert daemon.text("/master") == cluster.primary.address
    assert "permission denied for function pg_control_system" in daemon.log
    wait_until("in sync", lambda: daemon.host(cluster.replicas[0].address)["sync_by_time"])
