"""The process: one monitoring thread, and the HTTP server on the main thread.

There is no supervisor in here. systemd, a container runtime or the kubelet restarts the process if
it ends; exit status 70 means that a thread has failed repeatedly or hangs.
"""

import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Mapping

from pgstatus import __version__
from pgstatus.daemon.orphans import Orphans
from pgstatus.daemon.runtime import Runtime
from pgstatus.daemon.watchdog import Heartbeat, Watchdog
from pgstatus.errors import StartError
from pgstatus.http.listener import inherited_sockets, listen, socket_file
from pgstatus.http.worker import EventLoopWorker
from pgstatus.outputs import systemd
from pgstatus.outputs.systemd import Notifier
from pgstatus.settings.load import Configuration, require_clusters
from pgstatus.telemetry import logs

log = logging.getLogger(__name__)

SERVICE_MANAGER_VARIABLES = frozenset(
    (*systemd.VARIABLES, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
)
"""For this process only, not for the commands that it runs."""

# Signals that gunicorn's arbiter would act upon, or that would end the process.
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE)


def serve(environ: Mapping[str, str], load: Callable[[], Configuration]) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status.

    ``environ`` is that of the process, ``load`` reads the configuration. ConfigError: it
    is invalid; StartError: the address is in use, or no thread can be started.
    """
    configuration = load()
    require_clusters(configuration)
    logs.set_up_logs(configuration.process.log_level, configuration.process.log_format)
    for settings in configuration.clusters.values():
        cluster = f"cluster {settings.name}, " if settings.name else ""
        log.info("pg-status %s, %s%s", __version__, cluster, settings.subject)
    for warning in configuration.warnings:
        log.warning("%s", warning)
    for problems in configuration.rejected.values():
        for problem in problems:
            log.error("%s", problem)
    try:
        process = _Process(configuration, load, environ)
    except StartError:
        logs.flush()  # before the caller writes the error
        raise
    try:
        return process.run()
    finally:
        process.close()


class _Process:
    def __init__(
        self,
        configuration: Configuration,
        load: Callable[[], Configuration],
        environ: Mapping[str, str],
    ) -> None:
        self._exit_status = 0
        settings = configuration.process
        # Of a systemd socket unit, if there is one.
        listeners = inherited_sockets(environ)
        self._socket_file = None if listeners else socket_file(settings)
        """To be removed at the end."""
        if listeners:
            names = ", ".join(str(listener.getsockname()) for listener in listeners)
            log.info("listening on the sockets of the service manager: %s", names)
        else:
            listeners = [listen(settings)]
            log.info("listening on %s", settings.url)
        self._notifier = Notifier.from_environment(environ)
        self._runtime = Runtime(
            configuration,
            load,
            self._notifier,
            wake=self._wake,
            end=self._fail,
            changed=self._publish,
            forget=self._forget,
        )
        self._heartbeat = Heartbeat("main")
        self._worker = EventLoopWorker(
            listeners,
            self._runtime,
            self._runtime.requests,
            self._runtime.watchers,
            self._runtime.tls,
            on_turn=self._tick,
            hosts=self._runtime.hosts,
        )
        self._watchdog = Watchdog(self._heartbeat, self._runtime.heartbeat_of_monitor)
        self._orphans = Orphans() if os.getpid() == 1 else None
        self._next_look = 0.0

    def run(self) -> int:
        logs.capture_library_output()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: self._worker.stop())
        signal.signal(signal.SIGHUP, lambda *_: self._runtime.reload())
        # Before any thread that starts a command, which would inherit the mask.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        for signum in _IGNORED:
            signal.signal(signum, signal.SIG_IGN)
        try:
            self._runtime.start()
            self._watchdog.start()
        except RuntimeError as error:
            raise StartError(f"cannot start a thread: {error}") from None
        _tidy_up()
        self._worker.run()
        return self._exit_status

    def close(self) -> None:
        self._notifier.stopping()
        self._watchdog.stop()
        self._runtime.stop()
        if self._socket_file is not None:
            with contextlib.suppress(OSError):
                self._socket_file.unlink()
        if not logs.flush(0.3):
            # The interpreter would wait for stderr without end.
            os._exit(self._exit_status)

    def _wake(self) -> None:
        self._worker.shared.loop.wake()

    def _publish(self) -> None:
        self._worker.shared.streams.schedule()

    def _forget(self) -> None:
        shared = self._worker.shared
        shared.loop.call(shared.forget)

    def _fail(self) -> None:
        self._exit_status = os.EX_SOFTWARE
        self._worker.stop()

    def _tick(self) -> None:
        self._heartbeat.beat()
        self._runtime.tick()
        now = self._worker.shared.loop.now
        if self._orphans is not None and now >= self._next_look:
            self._next_look = now + 1.0
            self._orphans.collect()
        if not self._worker.alive:
            self._runtime.release_waiting()


def _tidy_up() -> None:
    """Keep the garbage collector from traversing what stays until the end."""
    gc.collect()
    gc.freeze()
