"""Ends the process if one of its threads hangs.

A thread is considered to hang after a number of intervals in which the watchdog ran and the thread
gave no heartbeat. Time is not measured: a process that was stopped, a container that was paused and
a machine that was suspended have missed no interval in which they could run.
"""

import faulthandler
import logging
import os
import threading

from pgstatus.telemetry import logs

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks of the watchdog; the threads give a heartbeat at least as often."""
# Less than WatchdogSec of the systemd unit, which would not write the stacks.
_MISSED = 12


class Heartbeat:
    """Counts the heartbeats of one thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.paused = False
        """The thread is known not to run."""

    def beat(self) -> None:
        self.count += 1
        self.paused = False


class Watchdog:
    """Watches threads, in a thread of its own."""

    def __init__(self, *heartbeats: Heartbeat) -> None:
        self._heartbeats = heartbeats
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. RuntimeError: no thread can be started."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        seen = [heartbeat.count for heartbeat in self._heartbeats]
        missed = [0] * len(seen)
        while not self._stopping.wait(INTERVAL):
            for index, heartbeat in enumerate(self._heartbeats):
                alive = heartbeat.count != seen[index] or heartbeat.paused
                missed[index] = 0 if alive else missed[index] + 1
                seen[index] = heartbeat.count
                if missed[index] >= _MISSED:
                    self._end(heartbeat)

    def _end(self, heartbeat: Heartbeat) -> None:
        log.critical(
            "the %s thread hangs: no heartbeat in %d intervals of %g s; the process ends",
            heartbeat.name,
            _MISSED,
            INTERVAL,
        )
        try:
            if logs.flush():  # otherwise this would wait for stderr, too
                faulthandler.dump_traceback(logs.stderr(), all_threads=True)
        finally:
            os._exit(os.EX_SOFTWARE)
