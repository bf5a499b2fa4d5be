"""One run of an external command: its process group, its input, its time limit."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping

from pgstatus.settings.command import Command

# Seconds from SIGTERM to SIGKILL.
_GRACE = 2.0


class Child:
    """A running command, in a process group of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", limit: float) -> None:
        self._process = process
        self._limit = limit

    @classmethod
    def start(
        cls, command: Command, text: str, variables: Mapping[str, str], output: int
    ) -> "Child":
        """Start ``command`` with ``text`` as its standard input. OSError, ValueError: it cannot.

        ``output`` is the descriptor for all its output.
        """
        # A file, because writing to a pipe would wait for the command to read.
        with os.fdopen(os.memfd_create("pg-status"), "w+b") as file:
            file.write(text.encode())
            file.seek(0)
            process = subprocess.Popen(
                command.words,
                stdin=file,
                stdout=output,
                stderr=output,
                env={**command.environment, **variables},
                cwd=_directory(),
                start_new_session=True,
            )
        return cls(process, command.limit)

    def wait(self) -> int | None:
        """The exit status, as in `subprocess`; None: the time limit was exceeded.

        In both cases no process of its group remains.
        """
        try:
            status = self._process.wait(self._limit)
        except subprocess.TimeoutExpired:
            self.end()
            return None
        self._signal(signal.SIGTERM)  # background processes
        return status

    def terminate(self) -> None:
        """Request the end of the command and all processes of its group; returns at once."""
        self._signal(signal.SIGTERM)

    def end(self, grace: float = _GRACE) -> None:
        """Terminate the command and all processes of its group."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            self._signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)

    def _signal(self, signum: signal.Signals) -> None:
        # The group does not exist any more, or belongs to another account (sudo).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)


def _directory() -> str:
    # Programs fail in a working directory that was deleted.
    try:
        return os.getcwd()  # noqa: PTH109  # Path.cwd() is longer and no better
    except OSError:
        return "/"
