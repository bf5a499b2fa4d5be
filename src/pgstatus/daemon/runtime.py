"""One configuration at work, and its exchange for another one while requests go on.

A reload does not start another worker, as gunicorn would: the connections of the old one would
have to be closed, and a request that is on its way on one of them would be lost. Instead a second
`Generation` is set up inside the worker; when its first round of checks is over, one
assignment makes it the one that is asked. What is known of hosts that stay is kept.
"""

import faulthandler
import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from pgstatus import clock
from pgstatus.api import Service, create_app
from pgstatus.core.changes import Event, events
from pgstatus.core.schedule import Schedule
from pgstatus.core.snapshot import Failure, Host, Observation, Snapshot
from pgstatus.core.state import State
from pgstatus.monitor.latest import Latest
from pgstatus.monitor.monitor import Monitor
from pgstatus.monitor.probe import Probe
from pgstatus.monitor.waiters import Waiters
from pgstatus.outputs.hook import Hook
from pgstatus.outputs.state_file import StateFile
from pgstatus.outputs.systemd import Notifier
from pgstatus.settings.load import Settings
from pgstatus.telemetry import logs
from pgstatus.telemetry.counters import Checks, Requests
from pgstatus.telemetry.history import History

log = logging.getLogger(__name__)

# A monitor that gives no sign of life for so many seconds hangs (in a password file on a dead
# network drive, say): less than the watchdog of the systemd unit has patience, which restarts more.
_HANGS_AFTER = 12.0
_BEAT = 0.5
# Two monitors see a promotion some milliseconds apart. If they do not agree by then, it is because
# they are told to decide otherwise.
_AGREES_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Records:
    """What goes on from one configuration to the next: numbers, history, the command's state, the
    file of what outlives a restart.
    """

    hook: Hook
    requests: Requests = field(default_factory=Requests)
    checks: Checks = field(default_factory=Checks)
    history: History = field(default_factory=History)
    state_file: StateFile = field(default_factory=StateFile)


class Generation:
    """The board, the monitor and the application of one configuration."""

    def __init__(
        self,
        settings: Settings,
        *,
        records: Records,
        waiters: int,
        before: State | None,
        on_beat: Callable[["Generation"], None],
        on_result: Callable[["Generation", Host, Observation | Failure], None],
        on_events: Callable[["Generation", Snapshot, Sequence[Event]], None],
        on_death: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.board = Latest(settings.hosts, settings.rules)
        self.ready_at = inf
        """Since when it has been ready."""
        self.waiters = Waiters(waiters)
        self.monitor = Monitor(
            hosts=settings.hosts,
            probes=lambda index, on_lost: Probe(settings.targets[index], on_lost),
            board=self.board,
            waiters=self.waiters,
            rules=settings.rules,
            schedule=Schedule(settings.rules.sleep, settings.failover_sleep),
            on_death=on_death,
            on_beat=lambda: on_beat(self),
            on_result=lambda host, result: on_result(self, host, result),
            on_events=lambda before, events: on_events(self, before, events),
            before=before,
        )
        self.wsgi = create_app(
            Service(
                read=self.board.read,
                now=clock.now,
                thresholds=settings.thresholds,
                place=settings.place,
                waiters=self.waiters,
                min_lsn_wait=settings.min_lsn_wait,
                tokens=settings.tokens,
                history=records.history,
                expose=partial(self._expose, records),
            )
        )

    def _expose(self, records: Records, accept: str) -> tuple[str, bytes]:
        # Not needed where nobody scrapes.
        from pgstatus.telemetry.prometheus import expose  # noqa: PLC0415

        return expose(
            accept,
            snapshot=self.board.read(),
            now=clock.now(),
            requests=records.requests,
            checks=records.checks,
            hook_runs=records.hook.runs.copy(),
            hook_pending=records.hook.is_pending,
            dropped_log_lines=logs.dropped(),
        )


class Runtime:
    """The site that answers, and the one that is to follow it."""

    def __init__(
        self,
        settings: Settings,
        notifier: Notifier,
        on_death: Callable[[], None],
        hook: Hook,
        *,
        waiters: int,
    ) -> None:
        self._notifier = notifier
        self.records = Records(hook)
        self._make = partial(
            Generation,
            records=self.records,
            waiters=waiters,
            on_beat=self._beat,
            on_result=self._count,
            on_events=self._note,
            on_death=on_death,
        )
        self._lock = threading.Lock()
        self._ready = False
        self._armed_at = 0.0
        self._next: Generation | None = None
        self._current = self._make(settings, before=None)
        self._take_over(settings)

    def start(self) -> None:
        self._current.monitor.start(self.records.state_file.read())

    def read(self) -> Snapshot:
        """The newest snapshot."""
        return self._current.board.read()

    def tls(self) -> ssl.SSLContext | None:
        """How new connections are encrypted; None: they are not."""
        return self._current.settings.tls

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._current.wsgi(environ, start_response)

    def follow(self, settings: Settings) -> None:
        """Work with ``settings`` as soon as every host of theirs was asked anew."""
        with self._lock:
            self._notifier.reloading()
            if self._next is not None:
                self._next.monitor.stop(0)
            self._next = self._make(settings, before=self._current.monitor.state)
            self._next.monitor.start()

    def _take_over(self, settings: Settings) -> None:
        self.records.checks.watch(settings.hosts)
        self.records.hook.use(settings.on_change)
        self.records.state_file.use(settings.state_file)

    def hurry(self) -> None:
        """Answer whoever waits now."""
        self._current.waiters.close()

    def stop(self) -> None:
        self.records.hook.stop()
        faulthandler.cancel_dump_traceback_later()
        with self._lock:
            if self._next is not None:
                self._next.monitor.stop(0)
            self._current.monitor.stop(0.5)

    def _count(self, site: Generation, host: Host, result: Observation | Failure) -> None:
        if site is self._current:
            self.records.checks.checked(host, result)

    def _note(self, site: Generation, before: Snapshot, told: Sequence[Event]) -> None:
        if site is self._current:
            self.records.history.changed(before, told, clock.wall())

    def _beat(self, site: Generation) -> None:
        """A sign of life from the monitor of a site."""
        snapshot = site.board.read()
        if site is self._next and self._may_follow(site):
            self._change_over(site)
        if site is self._current:
            self._defer_end()
            if snapshot.ready and not self._ready:
                self._ready = True
                self._notifier.ready()
            self._notifier.alive(_in_a_line(snapshot))
            self.records.history.sample(snapshot, clock.now())
            self.records.state_file.offer(site.monitor.state.memory)
            with self._lock:
                # Not the last word of a site that is being left.
                if site is self._current:
                    self.records.hook.offer(snapshot)

    def _may_follow(self, site: Generation) -> bool:
        """It is ready, and in the middle of a failover it knows as much as the one that answers."""
        snapshot, current = site.board.read(), self._current.board.read()
        if not snapshot.ready:
            site.ready_at = inf
            return False
        now = clock.now()
        site.ready_at = min(site.ready_at, now)
        return snapshot.names_the_same(current) or now - site.ready_at > _AGREES_WITHIN

    def _defer_end(self) -> None:
        """Unless this is called again in time, the process ends, with all stacks on stderr.

        The interpreter sees to it in a thread that needs no lock of its own, so it works however
        badly things hang. The arbiter starts another worker.
        """
        now = clock.now()
        if now - self._armed_at >= _BEAT:
            self._armed_at = now
            faulthandler.dump_traceback_later(_HANGS_AFTER, exit=True)

    def _change_over(self, site: Generation) -> None:
        with self._lock:
            if site is not self._next:  # another reload came first
                return
            before, self._current, self._next = self._current, site, None
            # Its thread ends by itself; this one has hosts to watch.
            before.monitor.stop(0)
            before.waiters.close()
            self._take_over(site.settings)
            # What the new one has seen while it was not asked yet.
            old = before.board.read()
            self._note(site, old, list(events(old, site.board.read())))
        self._notifier.ready()
        log.info("reloaded: %s", _difference(before.settings, site.settings))


def _in_a_line(snapshot: Snapshot) -> str:
    if not snapshot.ready:
        return "first round of checks"
    alive = sum(status.alive for status in snapshot.hosts)
    master = f"master is {snapshot.master.host}" if snapshot.master else "no master"
    return f"{master}, {alive} of {len(snapshot.hosts)} hosts alive"


def _difference(before: Settings, after: Settings) -> str:
    old, new = {str(host) for host in before.hosts}, {str(host) for host in after.hosts}
    changes = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (("added", new - old), ("removed", old - new))
        if names
    ]
    return "; ".join(changes) or "the same hosts"
