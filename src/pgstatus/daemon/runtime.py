"""What the process does between start and stop: its clusters, and the reload of the configuration.

A reload affects only the clusters whose configuration has changed.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import copy_context
from math import inf
from typing import Any

from pgstatus import clock
from pgstatus.api import Application, Daemon, create_app
from pgstatus.api.exchange import Exchange, Response, Slow, Waiting
from pgstatus.api.feeds import Epoch
from pgstatus.api.service import Service
from pgstatus.core.render import rfc3339
from pgstatus.core.selection import Question
from pgstatus.core.snapshot import Snapshot
from pgstatus.daemon.cluster import FAILURE_PERIOD, FAILURES, Cluster
from pgstatus.daemon.reloads import Reloads
from pgstatus.daemon.reporting import exposition, summary
from pgstatus.daemon.watchdog import Heartbeat
from pgstatus.errors import ConfigError
from pgstatus.monitor.thread import MonitoringThread
from pgstatus.outputs.hook import GRACE_AT_STOP, RESULTS
from pgstatus.outputs.systemd import Notifier
from pgstatus.settings.cluster import Settings
from pgstatus.settings.load import Configuration, require_clusters
from pgstatus.settings.process import ProcessSettings, needs_restart
from pgstatus.telemetry import logs
from pgstatus.telemetry.counters import Requests, Watchers

log = logging.getLogger(__name__)

# Seconds that the monitoring thread gets to end when the process stops.
_PATIENCE = 0.3
_LOG_EVERY = 60.0
# Seconds. Each reload starts connections, which take a moment to end if the next one supersedes it.
_BETWEEN_RELOADS = 0.1
_NO_CLUSTER = Snapshot(hosts=())


class _Services(Mapping[str, Service]):
    """The services of clusters."""

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        self._clusters = clusters

    def __getitem__(self, name: str) -> Service:
        return self._clusters[name].service

    def __iter__(self) -> Iterator[str]:
        return iter(self._clusters)

    def __len__(self) -> int:
        return len(self._clusters)


class Runtime:
    """Implements `http.shared.Backend` and `daemon.cluster.Owner`. Safe in any thread."""

    def __init__(
        self,
        configuration: Configuration,
        load: Callable[[], Configuration],
        notifier: Notifier,
        *,
        wake: Callable[[], None],
        end: Callable[[], None],
        changed: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        """``load`` reads the configuration again; ``wake`` has `tick` called soon, ``end`` ends the
        process with exit status 70; ``changed`` is called when the answers may have changed,
        ``forget`` when no earlier response may be sent again.
        """
        self._load = load
        self._notifier = notifier
        self._wake = wake
        self._end = end
        self.changed = changed
        self._forget = forget
        self._epoch = Epoch()
        self.requests = Requests()
        self.watchers = Watchers()
        self.heartbeat_of_monitor = Heartbeat("monitoring")
        self._thread = MonitoringThread(self._beat)
        self._is_ready = False
        self._is_stopping = False
        self._started_at = clock.wall()
        self._restarts = 0
        self._failed = False
        self._no_thread_until = self._no_thread_logged_at = -inf
        self._reload_requested = False
        self._reloading = False
        self._reloads = Reloads(notifier)
        self._process = configuration.process
        self._rejected = configuration.rejected
        self._clusters: Mapping[str, Cluster] = {
            name: self._make(settings) for name, settings in configuration.clusters.items()
        }
        self._only = _only(self._clusters)
        """Each request reads it."""
        self._application = Application(
            create_app(
                Daemon(
                    clusters=lambda: _Services(self._clusters),
                    rejected=lambda: self._rejected,
                    expose=self._expose,
                    tokens=lambda: self._process.tokens,
                    reloads=lambda: str(self._reloads),
                    documentation=lambda: self._process.docs_url,
                    report=self._report,
                )
            )
        )

    def start(self) -> None:
        """Start the monitoring thread. RuntimeError: no thread can be started."""
        self._thread.start()
        for cluster in self._clusters.values():
            cluster.start()
        if not self._clusters:  # files may be added later
            self.became_ready()

    def stop(self) -> None:
        """End the commands that are running, and the monitoring thread."""
        self._is_stopping = True
        _end(self._clusters.values())
        self._thread.stop(_PATIENCE)

    # The backend of the HTTP server.

    def read(self, cluster: str | None = None) -> Snapshot | None:
        """The latest snapshot of a cluster; without a name, of the only one."""
        if cluster is None:
            only = self._only
            return _NO_CLUSTER if only is None else only.read()
        found = self._clusters.get(cluster)
        return None if found is None else found.read()

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context of new connections; None: they are not encrypted."""
        return self._process.tls

    def respond(self, environ: dict[str, Any], exchange: Exchange) -> Response | Waiting | Slow:
        """The response to a request."""
        return self._application.respond(environ, exchange)

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """The API as a WSGI application, for other servers."""
        return self._application.wsgi(environ, start_response)

    def wait(
        self, cluster: str | None, question: Question, wake: Callable[[], None]
    ) -> Callable[[], object] | None:
        """Call ``wake`` when a snapshot answers the question; returns the function that stops
        waiting, or None if it is not possible now.
        """
        found = self._only if cluster is None else self._clusters.get(cluster)
        return None if found is None else found.wait_for(question, wake)

    def hosts(self) -> int:
        """How many hosts are checked."""
        return sum(len(cluster.read().hosts) for cluster in self._clusters.values())

    def release_waiting(self) -> None:
        """Answer all waiting requests now: the process stops."""
        self._is_stopping = True
        for cluster in self._clusters.values():
            cluster.release_waiting()

    # Called by the main thread.

    def reload(self) -> None:
        """Read the configuration again, soon. Safe in signal handlers."""
        self._reload_requested = True
        self._wake()

    def tick(self) -> None:
        """Do what signals and other threads have requested; at least once a second."""
        if clock.now() < self._no_thread_until:
            return
        if self._failed:
            self._restart_failed()
        if self._reload_requested and not self._reloading and not self._is_stopping:
            self._reloading = True
            try:
                # Files may be on a network drive that does not respond.
                threading.Thread(target=self._reload, name="reload", daemon=True).start()
            except RuntimeError as error:
                self._reloading = False
                self._has_no_thread("the reload", error)

    def _restart_failed(self) -> None:
        clusters = self._clusters.values()
        self._failed = False
        try:
            self._restarts += sum(cluster.restart_failed() for cluster in clusters)
        except RuntimeError as error:
            self.heartbeat_of_monitor.paused = True
            self._has_no_thread("the restart of the monitoring", error)
        finally:
            # Not assigned otherwise: `failed` may have set it meanwhile, in the monitoring thread.
            if any(cluster.has_failed for cluster in clusters):
                self._failed = True

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
            while self._reload_requested and not self._is_stopping:
                self._reload_requested = False
                # For each request: systemd expects this notification after each signal.
                self._notifier.reloading()
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
            configuration = self._load()
            if not configuration.rejected.keys() & self._clusters.keys():
                require_clusters(configuration)
            self._warn(configuration)
            logs.set_level(configuration.process.log_level)
            self._use(configuration)
        except ConfigError as error:
            for problem in error.problems:
                log.error("reload refused: %s", problem)
            for warning in error.warnings:
                log.warning("%s", warning)
            self._reloads.finish("refused")
        except RuntimeError:
            raise
        except Exception:
            # No configuration may end the process that the last one runs in.
            log.exception("reload failed; the configuration stays as it was")
            self._reloads.finish("refused")

    def _warn(self, configuration: Configuration) -> None:
        for warning in configuration.warnings:
            log.warning("%s", warning)
        for name in needs_restart(self._process, configuration.process):
            log.warning("%s has changed; the change takes effect after a restart", name)
        for problems in configuration.rejected.values():
            for problem in problems:
                log.error("reload refused: %s", problem)

    def _use(self, configuration: Configuration) -> None:
        """Add, remove and change clusters; those with the same settings are not affected.

        RuntimeError: no thread can be started, and nothing has changed.
        """
        self._thread.start()
        self._reloads.supersede()
        before, clusters = self._clusters, dict[str, Cluster]()
        for name in dict.fromkeys([*configuration.clusters, *configuration.rejected]):
            settings = configuration.clusters.get(name)
            if name in before:
                clusters[name] = before[name]
            elif settings is not None:
                clusters[name] = self._make(settings)
        for name in clusters.keys() - before.keys():
            clusters[name].start()
            log.info("monitoring of cluster %s begins", name or "without a name")
        access_changes = _access(self._process) != _access(configuration.process)
        self._process, self._rejected = configuration.process, configuration.rejected
        self._clusters, self._only = clusters, _only(clusters)
        self._forget()
        removed = [before[name] for name in before.keys() - clusters.keys()]
        for cluster in removed:
            cluster.close()
            self.requests.forget(cluster.name)
            log.info("monitoring of cluster %s ends", cluster.name or "without a name")
        self.changed()  # their streams end
        for name, settings in configuration.clusters.items():
            # The streams of a client that has lost its access have to end. A single cluster is
            # always connected anew, which also shows that its certificates can be used.
            changes = access_changes or not name or settings != clusters[name].settings
            if name in before and changes:
                clusters[name].follow(settings)
        _end(removed)
        self._reloads.follow("partial" if configuration.rejected else "applied")
        self.replaced()

    def replaced(self) -> None:
        self._reloads.end(lambda: all(c.is_replaced for c in self._clusters.values()))

    def _make(self, settings: Settings) -> Cluster:
        def make() -> Cluster:
            logs.set_cluster(settings.name)  # its state file is read
            return Cluster(settings, self, self._thread, self._epoch)

        return copy_context().run(make)

    def _report(self) -> Mapping[str, object]:
        """The condition of pg-status itself, for the status page."""
        hooks = [cluster.hook for cluster in self._clusters.values()]
        return {
            "started_at": rfc3339(self._started_at),
            "reloads": self._reloads.count,
            "last_reload": self._reloads.last,
            "monitor_restarts": self._restarts,
            "dropped_log_lines": logs.dropped(),
            "hook_runs": {result: sum(hook.runs[result] for hook in hooks) for result in RESULTS},
            "hook_pending": any(hook.is_pending for hook in hooks),
        }

    def _expose(self, accept: str, only: str | None) -> tuple[str, bytes]:
        return exposition(
            accept,
            [c for c in self._clusters.values() if only in {None, c.name}],
            [name for name in self._rejected if only in {None, name}],
            requests=self.requests,
            watchers=self.watchers,
        )

    # Reports of the clusters and of the monitoring thread.

    def became_ready(self) -> None:
        if not self._is_ready and all(c.is_settled for c in self._clusters.values()):
            self._is_ready = True
            self._notifier.ready()

    def failed(self, cluster: Cluster) -> None:
        # One that fails repeatedly must not end the others, nor the start.
        if all(other.fails_repeatedly for other in self._clusters.values()):
            log.critical(
                "the monitoring has failed %d times within %d s; the process ends",
                FAILURES,
                FAILURE_PERIOD,
            )
            self._end()
            return
        self.became_ready()
        self._failed = True
        self._wake()

    def _beat(self) -> None:
        self.heartbeat_of_monitor.beat()
        self._notifier.alive(summary([cluster.read() for cluster in self._clusters.values()]))


def _only(clusters: Mapping[str, Cluster]) -> Cluster | None:
    """The only cluster; None: there are several, or none."""
    return next(iter(clusters.values())) if len(clusters) == 1 else None


def _access(process: ProcessSettings) -> tuple[object, ...]:
    """What decides which clients have access."""
    if process.tls is None:
        return (process.tokens,)
    authorities = process.tls.get_ca_certs(binary_form=True)
    return process.tokens, process.tls.verify_mode, sorted(authorities)


def _end(clusters: Collection[Cluster]) -> None:
    """End clusters, with their commands at the same time."""
    for cluster in clusters:
        cluster.close()
    until = clock.now() + GRACE_AT_STOP
    for cluster in clusters:
        cluster.hook.stop(max(0.0, until - clock.now()))
