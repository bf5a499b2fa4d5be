"""The results of reloads. A reload ends when all clusters use their new configuration."""

import threading
from collections.abc import Callable

from pgstatus.outputs.systemd import Notifier


class Reloads:
    """Safe in any thread: the monitoring thread and the thread of a reload report its end."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._lock = threading.Lock()
        self._pending: str | None = None
        """The result of the reload that is in use when all clusters have followed."""
        self.count = 0
        """Of the finished reloads."""
        self.last = "none"
        """The result of the last: ``applied``, ``partial`` or ``refused``."""

    def supersede(self) -> None:
        """A later reload begins to change the clusters: the former one does not end."""
        with self._lock:
            self._pending = None

    def follow(self, result: str) -> None:
        """The clusters follow; the result counts when `end` finds that they have."""
        with self._lock:
            self._pending = result

    def end(self, have_followed: Callable[[], bool]) -> None:
        """End the reload that is in progress, if there is one and all clusters have followed."""
        with self._lock:
            result = self._pending
            if result is None or not have_followed():
                return
            self._pending = None
        self.finish(result)

    def finish(self, result: str) -> None:
        """A reload has ended."""
        with self._lock:
            self.count += 1
            self.last = result
        self._notifier.ready()

    def __str__(self) -> str:
        """The number of finished reloads, and the result of the last, as in ``3 applied``."""
        return f"{self.count} {self.last}"
