"""Programs and threads that a test starts and that end with the test in any case."""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.support.waiting import PATIENCE, wait_until


class Running(ABC):
    """Started and ready on entry of a ``with`` block, ended on its exit."""

    patience = PATIENCE
    """Time limit for becoming ready, and for ending; seconds."""

    @abstractmethod
    def launch(self) -> None:
        """Start without waiting until it is ready."""

    @abstractmethod
    def end(self) -> None:
        """Stop it in any state."""

    def is_ready(self) -> bool:
        """AssertionError if it cannot become ready."""
        return True

    @property
    def log(self) -> str:
        """Its output so far."""
        return ""

    @contextmanager
    def launched(self) -> Iterator[Self]:
        """A ``with`` block that does not wait until it is ready."""
        self.launch()
        try:
            yield self
        finally:
            self.end()

    def __enter__(self) -> Self:
        self.launch()
        with ExitStack() as undo:
            undo.callback(self.end)
            name = type(self).__name__
            wait_until(lambda: f"{name} is ready\n{self.log}", self.is_ready, self.patience)
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.log:
            error.add_note(self.log)
        self.end()


class Program(Running):
    """A process with its output in a log file."""

    group: int | None = None
    """Its group ID; None: that of the tests."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.command = command
        self.environment = dict(environment)
        self._log = log

    def launch(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                group=self.group,
            )

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"{type(self).__name__} ended: {self.log}"
        return self.answers()

    @abstractmethod
    def answers(self) -> bool:
        """It is operational."""

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


def answers(client: httpx.Client, path: str, status: int = 200) -> bool:
    """The response has this status; False while the connection is refused."""
    try:
        return client.get(path).status_code == status
    except httpx.TransportError:
        return False
