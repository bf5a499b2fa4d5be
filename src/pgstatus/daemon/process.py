"""The process: gunicorn, embedded, with exactly one worker that holds the monitor and the API.

gunicorn's arbiter only watches: a worker that dies, by a signal or because its monitor died of a
defect, is replaced, so that nobody is served old news.

SIGHUP reads the configuration again, in both processes: the arbiter refuses what is wrong and
remembers what is right for the next worker; the worker changes over to it (see `site`).
"""

import contextlib
import ctypes
import gc
import logging
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from pgstatus.core.snapshot import Snapshot
from pgstatus.daemon.runtime import Runtime
from pgstatus.errors import ConfigError
from pgstatus.http.listener import listen
from pgstatus.http.worker import FastLaneWorker
from pgstatus.outputs.hook import Hook
from pgstatus.outputs.systemd import Notifier
from pgstatus.settings.load import Settings
from pgstatus.settings.variables import PREFIX
from pgstatus.telemetry import logs
from pgstatus.telemetry.counters import Requests

log = logging.getLogger(__name__)

# The fall of the monitor ends the worker with this (EX_SOFTWARE); gunicorn's own 3 and 4 would
# stop the arbiter.
_EXIT_DEFECT = 70
# A worker that dies at once is replaced at once, and so on: not more than about once a second.
_MIN_LIFE = 1.0

_MAX_WAITING = 240
"""So many requests may wait for a replica at a time; further ones are answered at once."""

_OPTIONS = {
    # Set here and not left to WEB_CONCURRENCY: a second worker would be a second monitor.
    "workers": 1,
    "worker_class": FastLaneWorker,
    # For requests that wait; the further ones serve `/metrics` meanwhile.
    "threads": _MAX_WAITING + 16,
    # As far as the limit of open files allows; see `fastlane.connection_limit`.
    "worker_connections": 4096,
    "keepalive": 75,
    # What is left then is killed. The worker itself needs less: see `fastlane`, `site` and `hooks`.
    "graceful_timeout": 2,
    "control_socket_disable": True,
    # Nobody in front of us is believed: no header changes a path or a scheme.
    "forwarded_allow_ips": "",
    "forwarder_headers": "",
    "proc_name": "pg-status",
}

# What a running process cannot change: the variable, and its field of the settings.
_FIXED = {
    "http_listen_address": "listen_address",
    "http_port": "listen_port",
    "http_socket_mode": "socket_mode",
    "log_format": "log_format",
}

LoadSettings = Callable[[], Settings]


def serve(settings: Settings, load: LoadSettings, notifier: Notifier) -> None:
    """Run until SIGTERM or SIGINT; ends with SystemExit. StartError where the port is taken.

    ``load`` reads the settings anew, for SIGHUP.
    """
    _warn(settings.warnings)
    listener = listen(settings)
    log.info("listening on %s", settings.url)
    application = _Application(settings, load, notifier, listener.detach())
    _tidy_up()
    application.run()


def _tidy_up() -> None:
    """Before the fork: give back what is free, and keep the garbage collector from writing to all
    the rest, of which it would make a copy in the worker. 3 MiB (PSS of both processes).
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):  # musl has nothing of the kind
        ctypes.CDLL(None).malloc_trim(0)


class _Worker:
    """What lives in the worker process, until that ends.

    Made before the fork, which shares 1.5 MiB more of it, and begun after it. The arbiter never
    begins it, so the next worker gets it as the first one did.
    """

    def __init__(
        self,
        settings: Settings,
        load: LoadSettings,
        notifier: Notifier,
    ) -> None:
        self._began = 0.0
        self._settings = settings
        self._load = load
        self._reloading = threading.Lock()
        self._sites = Runtime(settings, notifier, self._die, Hook(), waiters=_MAX_WAITING)
        self.wsgi = self._sites.wsgi
        self.read = self._sites.read
        self.tls = self._sites.tls
        self.hurry = self._sites.hurry
        self.requests = self._sites.records.requests

    def begin(self) -> None:
        """Watch hosts, and heed signals."""
        self._began = time.monotonic()
        # Here and not before the fork: a thread does not survive one.
        logs.set_up_logs(self._settings.log_level, self._settings.log_format)
        # Not in the handler itself, which may have interrupted the holder of any lock.
        signal.signal(
            signal.SIGHUP, lambda *_: threading.Thread(target=self._reload, daemon=True).start()
        )
        # Before the first thread, which would pass its mask on to what it starts.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._sites.start()

    def stop(self) -> None:
        self._sites.stop()
        if not logs.flush():
            os._exit(0)

    def _reload(self) -> None:
        # One after the other: each changes the environment.
        with self._reloading:
            try:
                settings = self._load()
            except ConfigError as error:  # changed since the arbiter read it, a moment ago
                _refuse(error)
                return
            logs.set_level(settings.log_level)
            self._sites.follow(settings)

    def _die(self) -> None:
        time.sleep(max(0.0, self._began + _MIN_LIFE - time.monotonic()))
        logs.flush()
        os._exit(_EXIT_DEFECT)


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn runs, and what `fastlane` needs of it."""

    def __init__(
        self, settings: Settings, load: LoadSettings, notifier: Notifier, listener_fd: int
    ) -> None:
        self._settings = settings
        self._load = load
        self._notifier = notifier
        self._listener_fd = listener_fd
        self._worker = self._next_worker()
        super().__init__()

    def _next_worker(self) -> _Worker:
        return _Worker(self._settings, self._load, self._notifier)

    @property
    def read(self) -> Callable[[], Snapshot]:
        return self._worker.read

    @property
    def tls(self) -> Callable[[], ssl.SSLContext | None]:
        return self._worker.tls

    @property
    def hurry(self) -> Callable[[], None]:
        return self._worker.hurry

    @property
    def requests(self) -> Requests:
        return self._worker.requests

    def load_config(self) -> None:
        shared_memory = Path("/dev/shm")  # noqa: S108
        options: dict[str, Any] = {
            **_OPTIONS,
            "bind": f"fd://{self._listener_fd}",
            "logger_class": _Logger,
            "loglevel": "critical" if (level := self._settings.log_level) == "fatal" else level,
            # Until the worker can handle it, or a reload would be the end of the worker.
            "post_fork": lambda server, worker: signal.pthread_sigmask(
                signal.SIG_BLOCK, {signal.SIGHUP}
            ),
            "worker_exit": lambda server, worker: self._worker.stop(),
            # The worker's sign of life is a file's time stamp: in memory it works on a read-only
            # file system and never waits for a disk.
            "worker_tmp_dir": str(shared_memory) if shared_memory.is_dir() else None,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        self._worker.begin()
        return self._worker.wsgi

    def read_again(self) -> bool:
        """Read the configuration for the next worker; False, and the old one stays, if wrong."""
        try:
            settings = self._load()
        except ConfigError as error:
            _refuse(error)
            return False
        _warn(settings.warnings)
        for name, what in _FIXED.items():
            if getattr(settings, what) != getattr(self._settings, what):
                log.warning("%s%s has changed: that needs a restart", PREFIX, name)
        self._settings = settings
        self._worker = self._next_worker()
        return True

    def run(self) -> None:
        _OneWorkerArbiter(self).run()


class _OneWorkerArbiter(Arbiter):  # type: ignore[misc]
    """Deaf to the signals that would change the number of workers."""

    def handle_hup(self) -> None:
        if self.app.read_again():
            self.kill_workers(signal.SIGHUP)

    def _not_here(self) -> None:
        log.warning("there is always exactly one worker; the signal is ignored")

    handle_ttin = handle_ttou = handle_usr2 = handle_winch = _not_here


def _refuse(error: ConfigError) -> None:
    for problem in error.problems:
        log.error("reload refused: %s", problem)
    _warn(error.warnings)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        log.warning("%s", warning)


class _Logger(Logger):  # type: ignore[misc]
    """gunicorn's lines go the way of ours."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # It does not know of our TLS, and says http.
        if not msg.startswith("Listening at"):
            super().info(msg, *args, **kwargs)

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        # A port scan is nothing to act upon, and would fill the log; its answers are counted.
        level = logging.DEBUG if msg.startswith("Invalid request from") else logging.WARNING
        self.error_log.log(level, msg, *args, **kwargs)
