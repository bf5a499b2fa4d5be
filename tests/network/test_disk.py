"""A full disk: the state of a replica on it is reported, and the other hosts are unaffected.

In the namespace because it mounts a file system of its own for the replica.
"""

import subprocess

from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.waiting import wait_until


def test_a_replica_on_a_full_disk(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster = make_cluster()
    full, other = cluster.replicas
    daemon = make_daemon(cluster)
    full.stop()
    full.data.mkdir(exist_ok=True)
    small = ["mount", "-t", "tmpfs", "-o", "size=120m,mode=0700,uid=65534,gid=65534", "tmpfs"]
    for path in full.data.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)
    subprocess.run([*small, full.data], check=True)
    try:
        full.clone(cluster.primary)
        full.launch()
        wait_until("it is in sync", lambda: daemon.host(full.address)["sync_by_time"], timeout=30)
        for _ in range(30):
            cluster.primary.sql(
                "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 8000000))"
            )
        wait_until("it is not", lambda: not daemon.host(full.address)["sync_by_bytes"], timeout=60)
        wait_until(
            "the other is returned",
            lambda: daemon.text("/sync_by_bytes") == other.address,
            timeout=60,
        )
        assert daemon.text("/master") == cluster.primary.address
        assert daemon.host(full.address)["error"] or daemon.host(full.address)["reason"]
    finally:
        full.stop()
        subprocess.run(["umount", "--lazy", full.data], check=True)
