"""Logs on stderr, as text or JSON, one line each, RFC 3339 in UTC.

A reader of stderr that stalls holds up nobody. In the worker, which watches hosts and answers
requests, the lines are written by a thread of their own, and are kept for long. The main process,
which forks and so has no other threads, leaves out what is not taken within a moment.
"""

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import select
import threading
from datetime import UTC, datetime

# Of our own lines there are a few a minute; this many unread ones mean that nobody reads.
_MAX_UNREAD = 10_000

# Seconds that the main process waits for a reader. It has a few lines at a time at the most.
_PATIENCE = 0.1
_STDERR = 2

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


class _Stderr(logging.Handler):
    """Writes a line as soon as it is taken, for ``patience`` seconds at the most; None: for ever.

    Source: ``poll(2)``, ``pipe(7)``: what is writable takes PIPE_BUF bytes at once. No lock is held
    meanwhile that a fork would leave locked in the child, as there would be in `sys.stderr`.
    """

    def __init__(self, formatter: logging.Formatter | None, patience: float | None) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._patience_ms = None if patience is None else 1000 * patience
        self._poll = select.poll()
        self._poll.register(_STDERR, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        data = f"{self.format(record)}\n".encode(errors="backslashreplace")
        with contextlib.suppress(OSError):  # there is nobody to tell
            while data and self._poll.poll(self._patience_ms):
                data = data[os.write(_STDERR, data[: select.PIPE_BUF]) :]


class _Unblocking(logging.handlers.QueueHandler):
    """Has a thread write the lines as ``direct`` would; drops them where nobody reads."""

    def __init__(self, direct: list[logging.Handler]) -> None:
        self.lines: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_UNREAD)
        super().__init__(self.lines)
        self.direct = direct
        patient = (_Stderr(h.formatter, None) if isinstance(h, _Stderr) else h for h in direct)
        self.writer = logging.handlers.QueueListener(self.lines, *patient)
        self.writer.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.lines.put_nowait(record)
        except queue.Full:
            return


def set_up_logs(level: str, form: str) -> None:
    """Write all logs to stderr. ``level`` and ``form`` as in the configuration."""
    root = logging.getLogger()
    root.handlers[:] = [_Stderr(_Json() if form == "json" else _Text(), _PATIENCE)]
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
            root.handlers[:] = handler.direct
            stopping = threading.Thread(target=handler.writer.stop, daemon=True)
            stopping.start()
            stopping.join(patience)
            if stopping.is_alive():
                root.handlers[:] = []
                return False
    return True
