"""Logs on stderr, as text or as JSON: one line per message, RFC 3339 timestamps in UTC.

In JSON, a message about a host or a cluster has fields in addition to its text. They are passed to
`logging` as ``extra={"event": "master", "host": "pg2:5432", "timeline": 2}``.
"""

import json
import logging
import os
from contextvars import ContextVar
from datetime import UTC, datetime

from pgstatus.telemetry.stderr import STDERR, StderrHandler, capture_stderr

FIELDS = ("event", "cluster", "host", "timeline", "lag_ms")
"""The attributes of a log record that JSON lines contain where they are set."""

_cluster: ContextVar[str] = ContextVar("cluster", default="")

_LEVELS = {"fatal": logging.CRITICAL, "warn": logging.WARNING}
# Names of hosts and messages of servers must not forge lines or control a terminal.
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


class _Rfc3339(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        time = datetime.fromtimestamp(record.created, UTC)
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(_Rfc3339):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if cluster := getattr(record, "cluster", None):
            record.message = f"{cluster}: {record.message}"
        return super().formatMessage(record).translate(_ESCAPED)


class _Json(_Rfc3339):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logs(level: str, form: str) -> None:
    """Write all logs to stderr. ``level`` and ``form`` as in the configuration."""
    root = logging.getLogger()
    formatter = _Json() if form == "json" else _Text()
    # A descriptor of its own, so that descriptor 2 can be captured.
    handler = StderrHandler(os.dup(STDERR), formatter)
    handler.addFilter(_with_cluster)
    root.handlers[:] = [handler]
    set_level(level)
    # psycopg logs every connection attempt at level debug, with its parameters.
    logging.getLogger("psycopg").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # Our handlers report their own errors in the log.
    logging.raiseExceptions = False


def set_cluster(name: str) -> None:
    """What this thread or task logs from now on concerns this cluster. Tasks inherit it."""
    _cluster.set(name)


def _with_cluster(record: logging.LogRecord) -> bool:
    if not hasattr(record, "cluster") and (name := _cluster.get()):
        record.cluster = name
    return True


def set_level(level: str) -> None:
    """Change the level of all logs."""
    logging.getLogger().setLevel(level_of(level))


def level_of(name: str) -> int | str:
    """The level of a name from the configuration, as `logging` expects it."""
    return _LEVELS.get(name.lower(), name.upper())


def capture_library_output() -> None:
    """Log what libraries write to stderr. To be called once, after `set_up_logs`."""
    capture_stderr(stderr())


def stderr() -> int:
    """The descriptor of the actual stderr, for the output of other programs."""
    for handler in _handlers():
        return handler.descriptor
    return STDERR


def dropped() -> int:
    """The number of log lines that were lost because stderr did not accept them."""
    return sum(handler.dropped for handler in _handlers())


def flush(timeout: float = 0.5) -> bool:
    """Wait until all lines have been written; False if stderr did not accept them in time."""
    return all(handler.drain(timeout) for handler in _handlers())


def _handlers() -> list[StderrHandler]:
    return [h for h in logging.getLogger().handlers if isinstance(h, StderrHandler)]
