"""Programs that tests start end with them, and their output is reported."""

from pathlib import Path

import pytest

from tests.support.running import Program


class Mute(Program):
    """Prints a reason and never responds."""

    patience = 0.5

    def __init__(self, log: Path) -> None:
        super().__init__(["sh", "-c", "echo no disk; exec sleep 60"], log)

    def answers(self) -> bool:
        return False


def test_a_program_that_never_becomes_ready_is_ended_with_its_output(tmp_path: Path) -> None:
    program = Mute(tmp_path / "log")
    with pytest.raises(AssertionError, match="Mute is ready\nno disk"), program:
        pass
    assert program.process.poll() is not None


def test_a_failed_test_reports_the_log(tmp_path: Path) -> None:
    program = Mute(tmp_path / "log")
    program.answers = lambda: program.log != ""  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError) as failure, program:
        raise ZeroDivisionError
    assert failure.value.__notes__ == ["no disk\n"]
    assert program.process.poll() is not None


def test_a_program_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    program = Mute(tmp_path / "log")
    program.command = ["sh", "-c", "echo no disk"]
    program.patience = 60
    with pytest.raises(AssertionError, match="Mute ended: no disk"), program:
        pass
