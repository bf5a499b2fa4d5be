"""Logs: their format, and that a stderr that accepts nothing blocks no thread."""

import contextlib
import json
import logging
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgstatus.telemetry import logs
from pgstatus.telemetry.stderr import StderrHandler
from tests.support.waiting import wait_until

log = logging.getLogger("pgstatus.test")


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


class Pipe:
    """A stderr that the test reads when it wants to."""

    def __init__(self) -> None:
        self.reading_end, self.writing_end = os.pipe()
        self._text = ""

    def fill(self) -> None:
        """Leave no room in the pipe."""
        os.set_blocking(self.writing_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writing_end, b"x" * 1000)
        os.set_blocking(self.writing_end, True)

    def text_until(self, end: str) -> str:
        """Everything that was written up to ``end``."""
        while end not in self._text:
            self._text += os.read(self.reading_end, 65536).decode()
        return self._text

    def lines(self, number: int) -> list[str]:
        while self._text.count("\n") < number:
            self._text += os.read(self.reading_end, 65536).decode()
        return self._text.splitlines()


@contextmanager
def logging_to(
    descriptor: int, form: str = "text", level: str = "info", capacity: int = 100
) -> Iterator[StderrHandler]:
    """Logs as in the daemon, on another descriptor than 2."""
    logs.set_up_logs(level, form)
    (usual,) = logging.getLogger().handlers
    assert usual.formatter is not None
    handler = StderrHandler(descriptor, usual.formatter, capacity)
    logging.getLogger().handlers[:] = [handler]
    yield handler


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def log_from_a_thread(lines: int) -> None:
    """Fails if logging blocks."""

    def write() -> None:
        for number in range(lines):
            log.error("line %d", number)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "logging has blocked the thread"


def test_a_text_line(pipe: Pipe) -> None:
    with logging_to(pipe.writing_end):
        log.warning("%s is late", "pg2:5432")
        (line,) = pipe.lines(1)
    time, rest = line.split(" ", 1)
    assert rest == "WARNING  pg2:5432 is late"
    assert time.endswith("Z")


def test_a_json_line_contains_the_fields_that_are_set(pipe: Pipe) -> None:
    with logging_to(pipe.writing_end, "json"):
        log.info("m", extra={"event": "master", "host": "pg2:5432", "timeline": 2, "lag_ms": None})
        (line,) = map(json.loads, pipe.lines(1))
    assert line["message"] == "m"
    assert {key: line[key] for key in logs.FIELDS if key in line} == {
        "event": "master",
        "host": "pg2:5432",
        "timeline": 2,
    }


def test_a_json_line_contains_the_traceback(pipe: Pipe) -> None:
    with logging_to(pipe.writing_end, "json"):
        try:
            raise ZeroDivisionError("a defect")
        except ZeroDivisionError:
            log.critical("the monitor failed", exc_info=True)
        (line,) = map(json.loads, pipe.lines(1))
    assert line["message"] == "the monitor failed"
    assert "Traceback" in line["exception"]
    assert "ZeroDivisionError: a defect" in line["exception"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_message_that_cannot_be_formatted_is_logged_anyway(pipe: Pipe, form: str) -> None:
    with logging_to(pipe.writing_end, form):
        log.error("%d hosts", "three")
        log.error("%s", "next")
        broken, following = pipe.lines(2)
    assert "%d hosts" in broken
    assert "cannot be formatted" in broken
    assert "next" in following


def test_a_message_cannot_forge_a_line_or_control_the_terminal(pipe: Pipe) -> None:
    with logging_to(pipe.writing_end):
        log.error("%s", "a\n2026-01-01T00:00:00.000Z INFO all is well\x1b[2J")
        log.error("\udcff")
        lines = pipe.lines(2)
    assert len(lines) == 2
    assert r"a\x0a2026" in lines[0]
    assert "\x1b" not in lines[0]
    assert r"\udcff" in lines[1]


def test_a_blocked_pipe_does_not_block_and_dropped_lines_are_reported(pipe: Pipe) -> None:
    pipe.fill()
    with logging_to(pipe.writing_end, capacity=5) as handler:
        log_from_a_thread(50)
        assert logs.dropped() == handler.dropped >= 44
        assert not logs.flush(0.05)
        text = pipe.text_until("log lines dropped")
        assert logs.flush(10)
        log.error("the end")
        text = pipe.text_until("the end\n")
    lines = text.lstrip("x").splitlines()
    assert lines[0].endswith("line 0")
    assert f"WARNING  {handler.dropped} log lines dropped" in lines[-2]
    assert text.count("log lines dropped") == 1


def test_a_terminal_that_is_not_read_does_not_block() -> None:
    reader, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)  # Ctrl-S
    with logging_to(terminal, capacity=5) as handler:
        log_from_a_thread(20_000)
        assert handler.dropped > 0
        termios.tcflow(terminal, termios.TCOON)
        text = b""
        while b"lines dropped" not in text:
            text += os.read(reader, 65536)
    assert b"line 0\r\n" in text


def test_a_closed_pipe_loses_the_lines_and_nothing_else(pipe: Pipe) -> None:
    os.close(pipe.reading_end)
    with logging_to(pipe.writing_end) as handler:
        log_from_a_thread(3)
        assert logs.flush(10)
        assert handler.dropped == 3


def test_writing_goes_on_after_an_error() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    reading_end, writing_end = os.pipe()
    with logging_to(full) as handler:
        log_from_a_thread(2)
        assert logs.flush(10)
        os.dup2(writing_end, full)  # as if the disk had room again
        log.error("again")
        wait_until("it is written", lambda: logs.flush(1))
        text = os.read(reading_end, 65536).decode()
    assert handler.dropped == 2
    assert "again" in text.splitlines()[0]
    assert "2 log lines dropped" in text.splitlines()[1]


def test_a_non_blocking_descriptor_loses_no_line(pipe: Pipe) -> None:
    """stderr may be shared with a process that has set O_NONBLOCK."""
    os.set_blocking(pipe.writing_end, False)
    with logging_to(pipe.writing_end, capacity=10_000) as handler:
        log_from_a_thread(5000)
        assert pipe.text_until("line 4999\n").count("\n") == 5000
        assert handler.dropped == 0


def test_without_a_thread_lines_are_written_or_dropped(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with logging_to(pipe.writing_end) as handler:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        log.error("written at once")
        assert "written at once" in pipe.lines(1)[0]
        pipe.fill()
        log.error("dropped")
        assert handler.dropped == 1
        assert logs.flush(0.05)
        monkeypatch.undo()
        log.error("by a thread")
        assert "by a thread" in pipe.text_until("1 log lines dropped")


@pytest.mark.parametrize(
    ("name", "level"),
    [("WARN", logging.WARNING), ("Warning", logging.WARNING), ("fatal", logging.CRITICAL),
     ("debug", logging.DEBUG), ("ERROR", logging.ERROR)],
)  # fmt: skip
def test_the_name_of_a_level(root: logging.Logger, name: str, level: int) -> None:
    logs.set_level(name)
    assert root.level == level


_PROGRAM = """
import os, threading, time
from pgstatus.telemetry import logs
logs.set_up_logs("info", "text")
logs.capture_library_output()
for _ in range(3):
    os.write(2, b"WARNING: password file has group access\\n")
os.write(2, b"another line\\n")
for _ in range(100):  # more than a pipe holds; the descriptor does not block
    try:
        os.write(2, b"the same text again\\n" * 1000)
    except BlockingIOError:
        pass
def fail():
    raise ZeroDivisionError("a defect")
thread = threading.Thread(target=fail, name="one")
thread.start()
thread.join()
print("done", flush=True)
time.sleep(60)
"""


def test_output_of_libraries_and_uncaught_errors_are_logged() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "done\n"
        lines: list[str] = []
        while sum("stderr: " in line for line in lines) < 3 or "a defect" not in "".join(lines):
            lines.append(process.stderr.readline())
            assert lines[-1], "the program ended"
        process.kill()
        lines += process.stderr.read().splitlines()
    assert any("CRITICAL unexpected error in thread one" in line for line in lines)
    captured = [line.partition("stderr: ")[2].strip() for line in lines if "stderr: " in line]
    assert captured[:3] == [
        "WARNING: password file has group access",
        "another line",
        "the same text again",
    ]
    assert len(lines) < 100  # lines may have been cut where the pipe was full
