"""What tests start does not outlive them, and what it said is told."""

from pathlib import Path

import pytest

from tests.support.running import Program


class Mute(Program):
    """Says why it does not answer, and never does."""

    patience = 0.5

    def __init__(self, log: Path) -> None:
        super().__init__(["sh", "-c", "echo no disk; exec sleep 60"], log)

    def answers(self) -> bool:
        return False


def test_what_never_gets_ready_is_ended_with_its_last_words(tmp_path: Path) -> None:
    program = Mute(tmp_path / "log")
    with pytest.raises(AssertionError, match="Mute is ready\nno disk"), program:
        pass
    assert program.process.poll() is not None


def test_a_test_that_fails_tells_the_log(tmp_path: Path) -> None:
    program = Mute(tmp_path / "log")
    program.answers = lambda: program.log != ""  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError) as failure, program:
        raise ZeroDivisionError
    assert failure.value.__notes__ == ["no disk\n"]
    assert program.process.poll() is not None


def test_what_ended_is_not_waited_for(tmp_path: Path) -> None:
    program = Mute(tmp_path / "log")
    program.command = ["sh", "-c", "echo no disk"]
    program.patience = 60
    with pytest.raises(AssertionError, match="Mute ended: no disk"), program:
        pass
