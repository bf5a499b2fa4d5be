"""What the process does between start and stop: the generation in use, and its replacement.

A reload sets up a second generation beside the first. When all of its hosts were checked, one
assignment makes it the one in use. Connections stay open and no request is lost.
"""

import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from pgstatus import clock
from pgstatus.api.exchange import Exchange, Response, Slow, Waiting
from pgstatus.api.feeds import Epoch
from pgstatus.core.changes import Update, events
from pgstatus.core.render import rfc3339
from pgstatus.core.selection import Question
from pgstatus.core.snapshot import Failure, Host, Observation, Snapshot
from pgstatus.daemon.generation import Generation
from pgstatus.daemon.watchdog import Heartbeat
from pgstatus.errors import ConfigError
from pgstatus.monitor.waiters import Waiter
from pgstatus.outputs.hook import Hook
from pgstatus.outputs.state_file import StateFile
from pgstatus.outputs.systemd import Notifier
from pgstatus.settings.load import Settings, needs_restart
from pgstatus.telemetry import logs
from pgstatus.telemetry.counters import Checks, Requests, Watchers
from pgstatus.telemetry.history import History

log = logging.getLogger(__name__)

# The two monitors of a reload see a promotion some milliseconds apart. If they report different
# masters for longer, the configurations are the reason.
_AGREES_WITHIN = 1.0
# Seconds that a monitoring thread gets to end when the process stops.
_PATIENCE = 0.3
_LOG_EVERY = 60.0
# Failures of the monitoring thread within so many seconds that end the process.
_FAILURES, _FAILURE_PERIOD = 3, 60.0
# Seconds. Each reload starts a thread and connections, which take a moment to end if the next one
# supersedes it.
_BETWEEN_RELOADS = 0.1


class Runtime:
    """Implements `http.shared.Backend` and `daemon.generation.Owner`. Safe in any thread."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        notifier: Notifier,
        *,
        wake: Callable[[], None],
        end: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        """``load`` reads the configuration again; ``wake`` has `tick` called soon, ``end`` ends the
        process with exit status 70; ``changed`` is called when the answers may have changed.
        """
        self._load = load
        self._notifier = notifier
        self._wake = wake
        self._end = end
        self._changed = changed
        self._epoch = Epoch()
        self.requests = Requests()
        self.watchers = Watchers()
        self.heartbeat_of_monitor = Heartbeat("monitoring")
        self._checks = Checks()
        self._history = History()
        self._hook = Hook()
        self._state_file = StateFile()
        self._lock = threading.Lock()
        """Protects the replacement of a generation."""
        self._next: Generation | None = None
        self._is_ready = False
        self._is_stopping = False
        self._started_at = clock.wall()
        self._restarts = 0
        self._failures: deque[float] = deque(maxlen=_FAILURES)
        self._must_restart: set[Generation] = set()
        self._no_thread_until = self._no_thread_logged_at = -inf
        self._reload_requested = False
        self._reloading = False
        self._reloads = 0
        self._last_reload = "none"
        self._state_file.use(settings.state_file)
        self._current = self._make(settings, memory=self._state_file.read())
        self._use_outputs(settings)

    def start(self) -> None:
        """Start the monitoring thread. RuntimeError: no thread can be started."""
        self._current.monitor.start()

    def stop(self) -> None:
        """End the command that is running, and the monitoring threads."""
        with self._lock:
            generations = [self._current, *([self._next] if self._next else [])]
            self._next = None
        self._hook.stop()
        # Without the lock: a monitor that is publishing may need it to end.
        for generation in generations:
            generation.stop(_PATIENCE)

    # The backend of the HTTP server.

    def read(self) -> Snapshot:
        """The latest snapshot."""
        return self._current.latest.read()

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context of new connections; None: they are not encrypted."""
        return self._current.settings.tls

    def respond(self, environ: dict[str, Any], exchange: Exchange) -> Response | Waiting | Slow:
        """The response to a request."""
        return self._current.application.respond(environ, exchange)

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """The API as a WSGI application, for other servers."""
        return self._current.application.wsgi(environ, start_response)

    def wait(self, question: Question, wake: Callable[[], None]) -> Waiter | None:
        """Call ``wake`` when a snapshot answers the question; None: not possible now."""
        return self._current.waiters.add(question, wake)

    def discard(self, waiter: Waiter) -> None:
        """``wake`` is not needed any more."""
        self._current.waiters.discard(waiter)

    def release_waiting(self) -> None:
        """Answer all waiting requests now: the process stops."""
        self._is_stopping = True
        self._current.waiters.close()

    # Called by the main thread.

    def reload(self) -> None:
        """Read the configuration again, soon. Safe in signal handlers."""
        self._reload_requested = True
        self._wake()

    def tick(self) -> None:
        """Do what signals and other threads have requested; at least once a second."""
        if clock.now() < self._no_thread_until:
            return
        if self._must_restart:
            self._restart_failed()
        if self._reload_requested and not self._reloading and not self._is_stopping:
            self._notifier.reloading()
            self._reloading = True
            try:
                # Files may be on a network drive that does not respond.
                threading.Thread(target=self._reload, name="reload", daemon=True).start()
            except RuntimeError as error:
                self._reloading = False
                self._has_no_thread("the reload", error)

    def _restart_failed(self) -> None:
        for generation in tuple(self._must_restart):
            self._must_restart.discard(generation)
            if generation not in (self._current, self._next):
                continue
            try:
                generation.restart()
            except RuntimeError as error:
                self._must_restart.add(generation)
                self._has_no_thread("the restart of the monitoring thread", error)
            else:
                self._restarts += 1
                log.warning("the monitoring thread was restarted")

    def _has_no_thread(self, what: str, error: RuntimeError) -> None:
        """Try again later, and log it once a minute at most."""
        now = clock.now()
        if now - self._no_thread_logged_at >= _LOG_EVERY:
            self._no_thread_logged_at = now
            log.error("%s is postponed: %s", what, error)
        self._no_thread_until = now + 1.0

    # Reload.

    def _reload(self) -> None:
        try:
            while self._reload_requested:
                self._reload_requested = False
                try:
                    self._reload_once()
                except RuntimeError as error:  # can't start new thread
                    self._reload_requested = True
                    self._has_no_thread("the reload", error)
                    return
                time.sleep(_BETWEEN_RELOADS)
        finally:
            self._reloading = False

    def _reload_once(self) -> None:
        try:
            settings = self._load()
            _warn(settings, self._current.settings)
            logs.set_level(settings.log_level)
            self._follow(settings)
        except ConfigError as error:
            for problem in error.problems:
                log.error("reload refused: %s", problem)
            for warning in error.warnings:
                log.warning("%s", warning)
            self._finish_reload("refused")
        except RuntimeError:
            raise
        except Exception:
            # No configuration may end the process that the last one runs in.
            log.exception("reload failed; the configuration stays as it was")
            self._finish_reload("refused")

    def _follow(self, settings: Settings) -> None:
        """Use ``settings`` as soon as all of their hosts were checked."""
        with self._lock:
            superseded, self._next = self._next, None
            state = self._current.monitor.state
        if superseded is not None:
            superseded.stop(0)
        generation = self._make(settings, before=state)
        with self._lock:
            self._next = generation
        try:
            generation.monitor.start()
        except RuntimeError:
            with self._lock:
                self._next = None
            raise

    def _finish_reload(self, result: str) -> None:
        self._reloads += 1
        self._last_reload = result
        self._notifier.ready()

    def reloads(self) -> str:
        """The number of finished reloads, and the result of the last, as in ``3 applied``."""
        return f"{self._reloads} {self._last_reload}"

    def _may_follow(self, generation: Generation) -> bool:
        """It is ready, and during a failover knows as much as the generation in use."""
        snapshot, current = generation.latest.read(), self.read()
        if not snapshot.ready:
            generation.ready_since = inf
            return False
        now = clock.now()
        generation.ready_since = min(generation.ready_since, now)
        return (
            current.master is None
            or snapshot.names_the_same(current)
            or now - generation.ready_since > _AGREES_WITHIN
        )

    def _replace(self, generation: Generation) -> None:
        with self._lock:
            if generation is not self._next:  # another reload came first
                return
            before, self._current, self._next = self._current, generation, None
            self._use_outputs(generation.settings)
            old, new = before.latest.read(), generation.latest.read()
            # What the new generation has learned before it was used.
            self._history.changed(old, list(events(old, new)), clock.wall())
        # The old thread ends by itself; this one has hosts to monitor.
        before.stop(0)
        self._changed()  # its streams end
        log.info("reloaded: %s", _difference(before.settings, generation.settings))
        self._finish_reload("applied")

    def _make(self, settings: Settings, **known: Any) -> Generation:
        return Generation(
            settings,
            self,
            history=self._history,
            expose=self._expose,
            reloads=self.reloads,
            report=self._report,
            epoch=self._epoch,
            **known,
        )

    def _use_outputs(self, settings: Settings) -> None:
        self._checks.watch(settings.hosts)
        self._hook.use(settings.on_change)
        self._state_file.use(settings.state_file)

    def _report(self) -> Mapping[str, object]:
        """The condition of pg-status itself, for the status page."""
        return {
            "started_at": rfc3339(self._started_at),
            "reloads": self._reloads,
            "last_reload": self._last_reload,
            "monitor_restarts": self._restarts,
            "dropped_log_lines": logs.dropped(),
            "hook_runs": self._hook.runs.copy(),
            "hook_pending": self._hook.is_pending,
        }

    def _expose(self, generation: Generation, accept: str) -> tuple[str, bytes]:
        # Imported by the first scrape only: it takes memory.
        from pgstatus.telemetry.prometheus import expose  # noqa: PLC0415

        return expose(
            accept,
            snapshot=generation.latest.read(),
            now=clock.now(),
            requests=self.requests,
            watchers=self.watchers,
            checks=self._checks,
            hook_runs=self._hook.runs.copy(),
            hook_pending=self._hook.is_pending,
            dropped_log_lines=logs.dropped(),
        )

    # Reports of the monitoring threads.

    def published(self, generation: Generation, update: Update) -> None:
        if generation is not self._current:
            return
        if update.events:
            self._history.changed(update.before, update.events, clock.wall())
        # A subscriber may request the history when it receives the event.
        self._changed()
        self._hook.offer(update.after)
        self._state_file.offer(generation.monitor.state.memory)

    def checked(
        self, generation: Generation, host: Host, result: Observation | Failure, seconds: float
    ) -> None:
        if generation is self._current:
            self._checks.checked(host, result, seconds)

    def recorded(self, generation: Generation) -> None:
        if generation is self._current:
            self._changed()

    def heartbeat(self, generation: Generation) -> None:
        if generation is self._next and self._may_follow(generation):
            self._replace(generation)
        if generation is not self._current:
            return
        self.heartbeat_of_monitor.beat()
        snapshot = generation.latest.read()
        if snapshot.ready and not self._is_ready:
            self._is_ready = True
            self._notifier.ready()
        self._notifier.alive(_summary(snapshot))
        self._history.sample(snapshot, clock.now())
        # What could not be run or written before is tried again.
        self._hook.offer(snapshot)
        self._state_file.offer(generation.monitor.state.memory)

    def failed(self, generation: Generation, error: BaseException) -> None:
        now = clock.now()
        self._failures.append(now)
        if len(self._failures) == _FAILURES and now - self._failures[0] <= _FAILURE_PERIOD:
            log.critical(
                "the monitoring thread has failed %d times within %d s; the process ends",
                _FAILURES,
                _FAILURE_PERIOD,
            )
            self._end()
            return
        self.heartbeat_of_monitor.paused = True
        self._must_restart.add(generation)
        self._wake()


def _warn(settings: Settings, before: Settings) -> None:
    for warning in settings.warnings:
        log.warning("%s", warning)
    for name in needs_restart(before, settings):
        log.warning("%s has changed; the change takes effect after a restart", name)


def _summary(snapshot: Snapshot) -> str:
    """The line that ``systemctl status`` shows."""
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
