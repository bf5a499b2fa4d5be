"""A planned change of the primary."""

from pgstatus.demo.cluster import Cluster, Server


def switch_over(cluster: Cluster) -> Server:
    """The primary is stopped cleanly and continues as a standby of a replica, on its address."""
    old, new = cluster.primary, cluster.replicas[0]
    old.stop()
    cluster.promote(new)
    old.become_replica(new)
    old.start()
    for replica in cluster.replicas_without(old):
        replica.follow(new)
    return old
