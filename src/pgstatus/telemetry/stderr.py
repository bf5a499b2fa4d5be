"""Log lines on stderr, without waiting for stderr.

A background thread takes the lines from a bounded queue and writes them. If stderr is blocked (a
pipe or a terminal that is not read), the queue fills up and further lines are dropped; if a write
fails (a closed pipe, a full disk), that line is dropped. Dropped lines are counted and reported in
the log as soon as a write succeeds again.
"""

import faulthandler
import logging
import os
import queue
import select
import signal
import threading

log = logging.getLogger(__name__)

STDERR = 2

# The daemon writes a few lines per minute, and a failover of hundreds of hosts some per host.
_CAPACITY = 2000
# Seconds.
_PATIENCE_AT_EXIT = 0.5
_DISTINCT_LINES = 100
_LONGEST_LINE = 1000


class StderrHandler(logging.Handler):
    """Writes to a file descriptor in the background. It owns the descriptor."""

    def __init__(
        self, descriptor: int, formatter: logging.Formatter, capacity: int = _CAPACITY
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.descriptor = descriptor
        self._capacity = capacity
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        # Unlike queue.Queue it cannot deadlock if the garbage collector or a signal logs.
        self._queue: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._rejected = 0
        """Lines for which the queue had no room. Changed under the lock of the handler."""
        self._failed = 0
        """Lines that could not be written. Changed by the thread only."""
        self._reported = 0

    @property
    def dropped(self) -> int:
        """The number of lines that were lost."""
        return self._rejected + self._failed

    def emit(self, record: logging.LogRecord) -> None:
        line = self._line(record)
        if not self._has_thread():
            self._write_immediately(line)
        elif self._queue.qsize() < self._capacity:
            self._queue.put(line)
        else:
            self._rejected += 1

    def drain(self, timeout: float) -> bool:
        """Wait until all lines have been written; False if ``timeout`` seconds were not enough."""
        if self._queue.empty() and self._thread is None:
            return True
        written = threading.Event()
        self._queue.put(written)
        return self._has_thread() and written.wait(timeout)

    def flush(self) -> None:
        """At the end of the process, `logging` calls this."""
        self.drain(_PATIENCE_AT_EXIT)

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as error:
            # A mistake in a log statement is no reason to lose the message, or the caller.
            problem = f"{record.msg!r} cannot be formatted: {error!r}"
            text = self.format(_record(record.levelno, problem))
        return f"{text}\n".encode(errors="backslashreplace")

    def _has_thread(self) -> bool:
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the limit of processes is reached; the next line tries again
                return False
            self._thread = thread
        return True

    def _write_lines(self) -> None:
        # With the terminal option `tostop` a write from the background would stop the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while True:
            item = self._queue.get()
            if isinstance(item, bytes) and not self._write(item):
                self._failed += 1
                continue
            if self._queue.empty():  # what was dropped is newer than what was in the queue
                self._report_dropped()
            if isinstance(item, threading.Event):
                item.set()

    def _report_dropped(self) -> None:
        dropped = self.dropped
        if dropped > self._reported:
            text = f"{dropped - self._reported} log lines dropped: stderr did not accept them"
            if self._write(self._line(_record(logging.WARNING, text))):
                self._reported = dropped

    def _write(self, data: bytes) -> bool:
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:  # another process has made the open file non-blocking
                self._writable.poll()
            except OSError:
                return False
        return True

    def _write_immediately(self, line: bytes) -> None:
        # pipe(7): a pipe that is reported as writable accepts PIPE_BUF bytes without blocking.
        line = line[: select.PIPE_BUF]
        if not self._writable.poll(0) or not self._write(line):
            self._rejected += 1


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, "", 0, text, None, None)


def capture_stderr(crash_report: int) -> None:
    """Log what libraries write to file descriptor 2, each different line once.

    libpq writes some warnings there at every login. Afterwards the descriptor is a pipe that never
    blocks its writer. The interpreter's report of a crash goes to ``crash_report`` directly.
    """
    threading.excepthook = _log_uncaught
    try:
        reading_end, writing_end = os.pipe()
    except OSError as error:
        log.warning("output of libraries on stderr is not captured: %s", error)
        return
    os.set_blocking(writing_end, False)
    thread = threading.Thread(target=_log_lines, args=(reading_end,), name="stderr", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        log.warning("output of libraries on stderr is not captured: %s", error)
        os.close(reading_end)
    else:
        faulthandler.enable(crash_report)
        os.dup2(writing_end, STDERR)
    os.close(writing_end)


def _log_uncaught(error: threading.ExceptHookArgs) -> None:
    if error.exc_value is not None:
        name = error.thread.name if error.thread is not None else "?"
        log.critical("unexpected error in thread %s", name, exc_info=error.exc_value)


def _log_lines(descriptor: int) -> None:
    known: set[str] = set()
    with open(descriptor, errors="replace") as pipe:
        while text := pipe.readline(_LONGEST_LINE):
            line = text.strip()
            if line and line not in known:
                if len(known) == _DISTINCT_LINES:
                    known.clear()
                known.add(line)
                log.warning("stderr: %s", line)
