"""The latest snapshot: written by the monitoring thread, read by any thread."""

import threading
from collections.abc import Sequence

from pgstatus.core.snapshot import Host, Snapshot
from pgstatus.core.state import Rules, State
from pgstatus.core.view import view


class Latest:
    """Where the newest snapshot hangs. Safe to use from any thread."""

    def __init__(self, hosts: Sequence[Host], rules: Rules) -> None:
        self._lock = threading.Lock()
        self._snapshot = view(State.of(hosts), rules)

    def read(self) -> Snapshot:
        with self._lock:
            return self._snapshot

    def publish(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._snapshot = snapshot
