"""Logs: what is written, and that who does not read them holds up nobody."""

import io
import logging
import threading
from collections.abc import Iterator

import pytest

from pgstatus.telemetry import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


class Stalled(io.StringIO):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.goes_on.wait()
        return super().write(text)


def test_a_full_log_holds_up_nobody(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_UNREAD", 5)
    stalled = Stalled()
    root.handlers[:] = [logging.StreamHandler(stalled)]
    logs.write_in_background()

    def speak() -> None:
        for number in range(50):
            logging.getLogger("pgstatus").error("line %d", number)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    speaker.join(10)
    held_up = speaker.is_alive()
    assert stalled.reached.wait(10)
    stalled.goes_on.set()
    assert not held_up
    assert logs.flush(10)
    lines = stalled.getvalue().splitlines()
    # Those that were waiting are written, the rest is lost.
    assert lines[0] == "line 0"
    assert 5 <= len(lines) < 50


def test_a_log_that_nobody_reads_is_given_up(root: logging.Logger) -> None:
    stalled = Stalled()
    root.handlers[:] = [logging.StreamHandler(stalled)]
    logs.write_in_background()
    logging.getLogger("pgstatus").error("a line")
    assert stalled.reached.wait(10)
    assert not logs.flush(0.01)
    assert root.handlers == []
    stalled.goes_on.set()
