"""The latest snapshot: written by the monitoring thread, read by any thread."""

from collections.abc import Sequence

from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.core.state import Rules, State
from pgstatus.core.view import view


class Latest:
    """Holds the latest snapshot. Snapshots are immutable, so one assignment publishes one."""

    def __init__(self, hosts: Sequence[Host], rules: Rules) -> None:
        self._snapshot = view(State.of(hosts), rules)

    def read(self) -> Snapshot:
        return self._snapshot

    def publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
