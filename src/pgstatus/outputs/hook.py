"""``pg_status__on_change``: a command that is run whenever the cluster has changed.

It is told the state, not the event: whatever happens while it runs melts into one more run with the
newest state, and a run that fails is repeated, with growing pauses, for as long as its state is the
newest. A thread of its own starts it and waits for it; the monitor only leaves a snapshot.
"""

import contextlib
import json
import logging
import mmap
import os
import signal
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from math import inf

from pgstatus import clock
from pgstatus.core.render import change_report
from pgstatus.core.situation import Situation
from pgstatus.core.snapshot import Snapshot
from pgstatus.settings.command import Command

log = logging.getLogger(__name__)

RESULTS = ("ok", "failed", "timeout")
"""How a run can end."""

_NUMBER = struct.Struct("=i")
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
# Between asking a command to end and ending it.
_GRACE = 2.0
_GRACE_AT_STOP = 0.3


class RunningGroup:
    """The process group of the run under way, where the arbiter can see it.

    To be made before the fork. A worker that dies cannot end its command, and the next one's would
    run beside it.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NUMBER.size)

    def note(self, group: int) -> None:
        """A group, or 0 for none."""
        self._memory[:] = _NUMBER.pack(group)

    def end(self) -> None:
        """End it now."""
        (group,) = _NUMBER.unpack(self._memory)
        if group:
            self.note(0)
            _signal(group, signal.SIGKILL)


class Hook:
    """Runs a command, one run at a time. Safe to use from any thread."""

    def __init__(self, group: RunningGroup | None = None) -> None:
        self._group = group or RunningGroup()
        self.runs: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))
        """By result, one of `RESULTS`."""
        self._woken = threading.Condition()
        self._command: Command | None = None
        self._snapshot: Snapshot | None = None
        self._wanted: Situation | None = None
        self._told: Situation | None = None
        """What the last run was told, if it went well."""
        self._failed: Situation | None = None
        self._retry_at = -inf
        self._pause = _FIRST_PAUSE
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_pending(self) -> bool:
        """The newest state has not been told yet."""
        return self._command is not None and self._wanted != self._told

    def use(self, command: Command | None) -> None:
        """Run this from now on; another command than before is told the state anew."""
        with self._woken:
            before, self._command = self._command, command
            if command == before:
                return
            # The next offer brings a state: the last one may be of other hosts, or of long ago.
            self._snapshot = self._wanted = self._told = self._failed = None
            self._woken.notify()

    def offer(self, snapshot: Snapshot) -> None:
        """The newest snapshot; returns at once."""
        if self._command is None or not snapshot.ready or snapshot is self._snapshot:
            return
        situation = Situation.of(snapshot)
        with self._woken:
            self._snapshot = snapshot
            if situation != self._wanted:
                self._wanted = situation
                self._woken.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="hook", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the run that is under way, and run nothing any more."""
        with self._woken:
            self._stopping.set()
            self._woken.notify()
            process, thread = self._process, self._thread
        if process is not None:
            _end(process, _GRACE_AT_STOP)
        if thread is not None:
            # It may be starting a process that could not be seen yet, and ends that itself.
            thread.join(3 * _GRACE_AT_STOP)

    def _main(self) -> None:
        while True:
            with self._woken:
                while (left := self._left()) > 0:
                    self._woken.wait(None if left == inf else left)
                command, snapshot, situation = self._command, self._snapshot, self._wanted
                told, self._told = self._told, None
            if self._stopping.is_set() or command is None or snapshot is None or situation is None:
                return
            try:
                result = self._run(command, snapshot, situation, told)
            except Exception:
                log.exception("on_change: a defect")
                result = "failed"
            if self._stopping.is_set():
                return
            with self._woken:
                self.runs[result] += 1
                if command != self._command:
                    continue
                if result == "ok":
                    self._told, self._failed = situation, None
                    self._pause = _FIRST_PAUSE
                else:
                    self._put_off(situation)

    def _left(self) -> float:
        """Seconds until the next run is due; 0: now; infinite: until something happens."""
        if self._stopping.is_set():
            return 0
        if not self.is_pending:
            return inf
        return max(0.0, self._retry_at - clock.now()) if self._wanted == self._failed else 0

    def _put_off(self, failed: Situation) -> None:
        # A state that was not tried yet is tried at once.
        if failed != self._failed:
            self._failed, self._pause = failed, _FIRST_PAUSE
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._retry_at = clock.now() + self._pause
        log.warning("on_change is run again in %g s if nothing changes until then", self._pause)

    def _run(
        self, command: Command, snapshot: Snapshot, situation: Situation, told: Situation | None
    ) -> str:
        changes = situation.differences(told)
        report = json.dumps(change_report(snapshot, changes), ensure_ascii=False)
        name = command.words[0]
        try:
            process = self._process = _start(command, report, situation.environment(changes))
        except (OSError, ValueError) as error:
            log.error("on_change: %s cannot be run: %s", name, error)
            return "failed"
        self._group.note(process.pid)
        if self._stopping.is_set():  # `stop` may have looked before there was a process
            _end(process, _GRACE_AT_STOP)
        began = clock.now()
        try:
            status = process.wait(command.limit)
        except subprocess.TimeoutExpired:
            log.error("on_change: %s was ended: it took more than %g s", name, command.limit)
            _end(process, _GRACE)
            return "timeout"
        finally:
            self._group.note(0)
            self._process = None
        # What it has left in the background.
        _signal(process.pid, signal.SIGTERM)
        took = clock.now() - began
        if status:
            log.error("on_change: %s ended with status %d after %.2f s", name, status, took)
            return "failed"
        log.info("on_change: %s was told (%s) in %.2f s", name, ", ".join(changes), took)
        return "ok"


def _start(
    command: Command, report: str, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    # Not a pipe: a command that does not read would have us wait.
    with os.fdopen(os.memfd_create("pg-status"), "w+b") as file:
        file.write(report.encode())
        file.seek(0)
        return subprocess.Popen(
            command.words,
            stdin=file,
            stdout=2,  # what it says belongs into the log, not to whoever reads stdout
            env={**command.environment, **environment},
            start_new_session=True,
        )


def _end(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """End a command and all that it has started."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        _signal(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)


def _signal(group: int, signum: signal.Signals) -> None:
    # Gone; or another account's, by sudo, and then it is left to itself.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)
