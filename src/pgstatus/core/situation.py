"""The facts that an ``on_change`` command reacts to, and whether they have changed. Pure.

Lags and positions change all the time and are not among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from pgstatus.core.snapshot import HostStatus, Snapshot


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts; between two equal situations no action is required. Hosts are ``name:port``."""

    master: str | None
    replicas: tuple[str, ...]
    """The live ones."""
    sync: tuple[str, ...]
    """Those of them that are in sync, or late by less than the interval of the checks explains."""
    split_brain: tuple[str, ...]
    """The masters, if there are several."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Situation":
        replicas = [status for status in snapshot.hosts if status.is_live_replica]
        claims = tuple(snapshot.claims)
        return cls(
            master=str(snapshot.master.host) if snapshot.master else None,
            replicas=tuple(str(status.host) for status in replicas),
            sync=tuple(str(status.host) for status in replicas if _is_synced(status)),
            split_brain=claims if len(claims) > 1 else (),
        )

    def differences(self, before: "Situation | None") -> tuple[str, ...]:
        """The names of the facts that differ from ``before``; after None, all of them."""
        names = tuple(field.name for field in fields(self))
        return tuple(n for n in names if before is None or getattr(self, n) != getattr(before, n))

    def environment(self, changes: tuple[str, ...], cluster: str = "") -> Mapping[str, str]:
        """The same, and the name of the cluster, as ``PG_STATUS_*`` variables; lists are separated
        by spaces.
        """
        host, _, port = (self.master or "").rpartition(":")
        return {
            "PG_STATUS_CLUSTER": cluster,
            "PG_STATUS_MASTER": host.strip("[]"),
            "PG_STATUS_MASTER_PORT": port,
            "PG_STATUS_REPLICAS": " ".join(self.replicas),
            "PG_STATUS_SYNC_REPLICAS": " ".join(self.sync),
            "PG_STATUS_SPLIT_BRAIN": " ".join(self.split_brain),
            "PG_STATUS_CHANGES": " ".join(changes),
        }


def _is_synced(status: HostStatus) -> bool:
    in_time = status.sync_by_time or status.tolerated
    return in_time and (status.sync_by_bytes or status.lag_bytes is None)
