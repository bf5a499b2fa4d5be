"""What a command that follows the cluster needs to know, and whether it has changed.

Lags and positions change all the time; these are the few facts that somebody acts upon. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from pgstatus.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts; two that are equal need no action. Hosts are ``name:port``."""

    master: str | None
    replicas: tuple[str, ...]
    """The live ones."""
    sync: tuple[str, ...]
    """Those of them that are in sync."""
    split_brain: tuple[str, ...]
    """Who says it is the master, where that is more than one."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Situation":
        replicas = [status for status in snapshot.hosts if status.is_live_replica]
        claims = tuple(snapshot.claims)
        return cls(
            master=str(snapshot.master.host) if snapshot.master else None,
            replicas=tuple(str(status.host) for status in replicas),
            sync=tuple(str(status.host) for status in replicas if status.in_sync),
            split_brain=claims if len(claims) > 1 else (),
        )

    def differences(self, before: "Situation | None") -> tuple[str, ...]:
        """The names of the facts that are other than ``before``; all of them after None."""
        names = tuple(field.name for field in fields(self))
        return tuple(n for n in names if before is None or getattr(self, n) != getattr(before, n))

    def environment(self, changes: tuple[str, ...]) -> Mapping[str, str]:
        """The same as ``PG_STATUS_*`` variables; lists are separated by spaces."""
        host, _, port = (self.master or "").rpartition(":")
        return {
            "PG_STATUS_MASTER": host.strip("[]"),
            "PG_STATUS_MASTER_PORT": port,
            "PG_STATUS_REPLICAS": " ".join(self.replicas),
            "PG_STATUS_SYNC_REPLICAS": " ".join(self.sync),
            "PG_STATUS_SPLIT_BRAIN": " ".join(self.split_brain),
            "PG_STATUS_CHANGES": " ".join(changes),
        }
