"""What a monitor and a relay have in common: a task of the monitoring thread that keeps the state
of a cluster, publishes it, and gives heartbeats.
"""

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf

from pgstatus.core.state import State
from pgstatus.monitor.publisher import Publisher
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.telemetry import logs

log = logging.getLogger(__name__)

_HEARTBEAT = 1.0
# After a publication: the heartbeat follows soon, but not once per response or document.
_HEARTBEAT_SOON = 0.1


class MonitoringTask(ABC):
    """In the thread are called: ``heartbeat`` at least every second, and ``on_failure`` if a defect
    ended the task; another one may take its place. Its log messages are those of ``cluster``.
    """

    kind: str
    """What has failed after a defect, for the log."""

    def __init__(
        self,
        thread: MonitoringThread,
        state: State,
        publisher: Publisher,
        *,
        heartbeat: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        cluster: str,
    ) -> None:
        self._thread = thread
        self._state = state
        self._publisher = publisher
        self._heartbeat = heartbeat
        self._on_failure = on_failure
        self._cluster = cluster
        self._beat_at = -inf
        self._published = False
        """Since the last heartbeat."""
        self._position_only = True
        """Nothing but positions changed since the last publication."""
        self._nudge = asyncio.Event()
        self._stopping = False
        self._has_ended = threading.Event()

    @property
    def state(self) -> State:
        """The present state; from any thread."""
        return self._state

    def start(self) -> None:
        """Start the task. RuntimeError: its thread has ended, and no other can be started."""
        self._thread.run(self._main)

    def stop(self) -> None:
        """End the task and its connections soon.

        May be called from any thread, more than once, and whether or not it was started.
        """
        self._stopping = True
        self._thread.call(self._nudge.set)

    def wait(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds at most until it has ended; False: it has not."""
        return self._has_ended.wait(timeout)

    @abstractmethod
    async def _run(self) -> None:
        """Work until `stop`."""

    async def _main(self) -> None:
        logs.set_cluster(self._cluster)
        try:
            await self._run()
        except BaseException as error:
            if not self._stopping:
                try:
                    log.critical("%s failed", self.kind, exc_info=True)
                finally:
                    self._on_failure(error)
        finally:
            self._has_ended.set()

    def _keep(self, state: State, *, position_only: bool = False) -> None:
        """The state from now on; it is published in the next iteration of the loop."""
        if state is not self._state:
            self._state = state
            self._position_only = self._position_only and position_only
            self._nudge.set()

    def _publish(self, now: float) -> None:
        if self._publisher.publish(self._state, now, position_only=self._position_only):
            self._position_only = True
            self._published = True

    @property
    def _beat_due(self) -> float:
        return self._beat_at + (_HEARTBEAT_SOON if self._published else _HEARTBEAT)

    def _beat(self, now: float) -> None:
        if now >= self._beat_due:
            self._beat_at, self._published = now, False
            self._heartbeat()

    async def _sleep(self, now: float, until: float) -> None:
        """Wait until then, or until something has changed."""
        timer = asyncio.get_running_loop().call_later(max(0.0, until - now), self._nudge.set)
        await self._nudge.wait()
        self._nudge.clear()
        timer.cancel()
