"""Logs on stderr, as text or JSON, one line each, RFC 3339 in UTC.

In the worker they are written by a thread of their own: a reader of stderr that stalls holds up
nobody who watches hosts or answers requests.
"""

import json
import logging
import logging.handlers
import queue
import sys
import threading
from datetime import UTC, datetime

# Of our own lines there are a few a minute; this many unread ones mean that nobody reads.
_MAX_UNREAD = 10_000

_LEVELS = {"fatal": logging.CRITICAL}


class _Rfc3339(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        time = datetime.fromtimestamp(record.created, UTC)
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(_Rfc3339):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s")


class _Json(_Rfc3339):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Unblocking(logging.handlers.QueueHandler):
    """Has a thread write the lines with ``outputs``; drops them where nobody reads."""

    def __init__(self, outputs: list[logging.Handler]) -> None:
        self.lines: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_UNREAD)
        super().__init__(self.lines)
        self.outputs = outputs
        self.writer = logging.handlers.QueueListener(self.lines, *outputs)
        self.writer.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.lines.put_nowait(record)
        except queue.Full:
            return


def set_up_logs(level: str, form: str) -> None:
    """Write all logs to stderr. ``level`` and ``form`` as in the configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level_of(level))
    # psycopg tells of every connection attempt at debug, with its parameters.
    logging.getLogger("psycopg").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def level_of(name: str) -> int | str:
    """The configuration's word for a level as `logging` knows it."""
    return _LEVELS.get(name, name.upper())


def write_in_background() -> None:
    """From now on log through a thread. To be called after a fork: threads do not survive one."""
    root = logging.getLogger()
    root.handlers[:] = [_Unblocking(root.handlers[:])]


def flush(patience: float = 0.5) -> bool:
    """Write what is left; False if nobody reads stderr and it was given up.

    The process must then end by ``os._exit``: the interpreter would wait for stderr for ever.
    """
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, _Unblocking):
            root.handlers[:] = handler.outputs
            stopping = threading.Thread(target=handler.writer.stop, daemon=True)
            stopping.start()
            stopping.join(patience)
            if stopping.is_alive():
                root.handlers[:] = []
                return False
    return True
