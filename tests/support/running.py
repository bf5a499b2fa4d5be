"""What a test starts and must end again, come what may: a program, or a thread of its own."""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.support.waiting import wait_until


class Running(ABC):
    """Launched and ready on entry of a ``with`` block, ended on its exit."""

    patience = 15.0
    """Seconds until it must be ready, and as many until it must have ended."""

    @abstractmethod
    def launch(self) -> None:
        """Start, without waiting for it to be ready."""

    @abstractmethod
    def end(self) -> None:
        """Stop it, whatever state it is in."""

    def is_ready(self) -> bool:
        """AssertionError if it never will be."""
        return True

    @property
    def log(self) -> str:
        """What it has said."""
        return ""

    @contextmanager
    def launched(self) -> Iterator[Self]:
        """A ``with`` block that does not wait for it to be ready."""
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
    """A process; all it says is in its log."""

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
        """It does what it is there for."""

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


def answers(client: httpx.Client, path: str, status: int = 200) -> bool:
    """With this status; False while nobody listens."""
    try:
        return client.get(path).status_code == status
    except httpx.TransportError:
        return False
