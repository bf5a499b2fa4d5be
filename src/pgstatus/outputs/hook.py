"""``pg_status__on_change``: a command that is run when the cluster has changed.

It receives the state of the cluster, not an event: all changes during a run lead to one further run
with the newest state. A background thread starts the command and waits for it; the monitor only
deposits snapshots. `RunSchedule` decides when a run is due.
"""

import json
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from math import inf

from pgstatus import clock
from pgstatus.core.render import change_report
from pgstatus.core.situation import Situation
from pgstatus.core.snapshot import Snapshot
from pgstatus.outputs.child import Child
from pgstatus.outputs.run_schedule import Run, RunSchedule
from pgstatus.settings.command import Command
from pgstatus.telemetry import logs

log = logging.getLogger(__name__)

RESULTS = ("ok", "failed", "timeout")
"""The possible results of a run."""

GRACE_AT_STOP = 0.3
"""Seconds from SIGTERM to SIGKILL when pg-status stops."""


@dataclass(frozen=True, slots=True)
class _Job:
    command: Command
    snapshot: Snapshot
    schedule: RunSchedule
    run: Run


class Hook:
    """Runs a command, one run at a time. Safe to use from any thread."""

    def __init__(self, cluster: str = "") -> None:
        """``cluster``: the name of the cluster, which the command receives; empty: it has none."""
        self._cluster = cluster
        self.runs: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))
        """By result, one of `RESULTS`."""
        self._changed = threading.Condition()
        self._command: Command | None = None
        self._schedule = RunSchedule()
        self._snapshot: Snapshot | None = None
        self._child: Child | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._thread_missing = False

    @property
    def is_pending(self) -> bool:
        """The newest state has not been reported yet."""
        return self._command is not None and self._schedule.is_pending

    def use(self, command: Command | None) -> None:
        """Run this command from now on. Another command than before receives the state anew."""
        with self._changed:
            before, self._command = self._command, command
            if command != before:
                # The next offer brings a snapshot; the last one may be of other hosts.
                self._schedule, self._snapshot = RunSchedule(), None
                self._changed.notify()

    def offer(self, snapshot: Snapshot) -> None:
        """Deposit the newest snapshot; returns immediately. The same one may be offered again."""
        if self._command is None or not snapshot.ready:
            return
        if snapshot is self._snapshot and not self._thread_missing:
            return
        situation = Situation.of(snapshot)
        with self._changed:
            self._snapshot = snapshot
            if self._schedule.want(situation):
                self._changed.notify()
            self._ensure_thread()

    def terminate(self) -> None:
        """Terminate the run that is under way, and start no other; returns at once.

        `stop` must follow.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
            child = self._child
        if child is not None:
            child.terminate()

    def stop(self, grace: float = GRACE_AT_STOP) -> None:
        """The same, and wait until it has ended: it is killed after ``grace`` seconds."""
        self.terminate()
        with self._changed:
            child, thread = self._child, self._thread
        if child is not None:
            child.end(grace)
        if thread is not None:
            # It may be starting a process at this moment, and terminates that itself.
            thread.join(3 * GRACE_AT_STOP)

    def _ensure_thread(self) -> None:
        if self._stopping or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._main, name="on_change", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._thread_missing:
                log.error("on_change: the command is delayed: %s", error)
            self._thread_missing = True
        else:
            self._thread, self._thread_missing = thread, False

    def _main(self) -> None:
        logs.set_cluster(self._cluster)
        while (job := self._next_job()) is not None:
            try:
                result = self._run(job)
            except Exception:
                log.exception("on_change: unexpected error")
                result = "failed"
            with self._changed:
                if self._stopping:
                    return
                self.runs[result] += 1
                pause = job.schedule.end(job.run, clock.now(), succeeded=result == "ok")
            if pause is not None:
                log.warning("on_change: next attempt in %g s, or at the next change", pause)

    def _next_job(self) -> _Job | None:
        """Wait until a run is due; None: pg-status stops."""
        announced = False
        with self._changed:
            while not self._stopping:
                wait = inf if self._command is None else self._schedule.wait(clock.now())
                if wait <= 0 and self._command is not None and self._snapshot is not None:
                    run = self._schedule.begin(clock.now())
                    return _Job(self._command, self._snapshot, self._schedule, run)
                if wait != inf and self._schedule.is_limited and not announced:
                    log.warning("on_change: frequent changes; the next run is in %.0f s", wait)
                    announced = True
                self._changed.wait(None if wait == inf else wait)
        return None

    def _run(self, job: _Job) -> str:
        command, run = job.command, job.run
        name = command.words[0]
        report = change_report(job.snapshot, run.changes, self._cluster)
        variables = run.situation.environment(tuple(run.changes), self._cluster)
        text = json.dumps(report, ensure_ascii=False)
        began = clock.now()
        try:
            child = Child.start(command, text, variables, logs.stderr())
        except (OSError, ValueError) as error:
            log.error("on_change: %s cannot be started: %s", name, error)
            return "failed"
        with self._changed:
            self._child = child
            stopping = self._stopping
        if stopping:  # `stop` was called before there was a process
            child.end(GRACE_AT_STOP)
        status = child.wait()
        with self._changed:
            self._child = None
        took = clock.now() - began
        if status is None:
            log.error("on_change: %s exceeded %g s and was terminated", name, command.limit)
            return "timeout"
        if status:
            log.error("on_change: %s failed with %s after %.2f s", name, _status(status), took)
            return "failed"
        merged = f", {run.merged} changes since the previous run" if run.merged > 1 else ""
        changes = ", ".join(run.changes)
        log.info("on_change: %s completed in %.2f s (changed: %s%s)", name, took, changes, merged)
        return "ok"


def _status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
