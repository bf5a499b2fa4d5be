"""The processes of a fleet: watchers and relays, which a campaign kills, freezes and restarts."""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.chaos.knowledge import Chronicle
from tests.support.daemon import Daemon
from tests.support.running import answers
from tests.support.waiting import wait_until

# Seconds that a process may take until it responds; the machine may be busy.
_START = 30.0
# Traces of a defect in a log.
_DEFECTS = re.compile(r"Traceback|CRITICAL|unexpected [A-Z]\w*: ")


class Member:
    """One process. While ``lock`` is held, only its holder disturbs it."""

    def __init__(
        self,
        name: str,
        address: str,
        variables: Mapping[str, object],
        log: Path,
        chronicle: Chronicle,
        *,
        settle: float,
        group: int | None,
    ) -> None:
        """``settle``: seconds after it has been started or resumed until it is useful again."""
        self.name = name
        self.address = address
        self.lock = threading.Lock()
        self.starts: list[float] = []
        self.violations: list[str] = []
        self._variables = variables
        self._log = log
        self._chronicle = chronicle
        self._settle = settle
        self._group = group
        self._daemon = self._make({})

    @property
    def is_relay(self) -> bool:
        return self.name not in self._chronicle.watchers

    @property
    def url(self) -> str:
        return self._daemon.url

    @property
    def daemon(self) -> Daemon:
        return self._daemon

    def start(self, changed: Mapping[str, object] | None = None) -> None:
        """Start it, with some variables changed, and wait until it responds."""
        if changed is not None:
            self._daemon.client.close()
            self._daemon = self._make(changed)
        self.starts.append(time.time())
        self._daemon.launch()
        try:
            wait_until("it responds", lambda: answers(self._daemon.client, "/live"), _START)
        except AssertionError:
            self.violations.append(f"{self.name} does not respond {_START:g} s after its start")

    def kill(self) -> None:
        self._daemon.process.kill()
        self._daemon.process.wait()

    def terminate(self) -> None:
        """Stop it regularly."""
        try:
            status = self._daemon.stop()
        except Exception as error:
            self.violations.append(f"{self.name} does not end after SIGTERM: {error}")
            self.kill()
        else:
            if status:
                self.violations.append(f"{self.name} ended with exit status {status}")

    def signal(self, signum: signal.Signals) -> None:
        self._daemon.process.send_signal(signum)

    @contextlib.contextmanager
    def trouble(self) -> Iterator[None]:
        """It does not work within this block."""
        relay, watcher = (self.name, None) if self.is_relay else (None, self.name)
        with self._chronicle.trouble(relay, watcher, self._settle):
            yield

    def evaluate(self) -> list[str]:
        """What it has done wrong, and what its log shows."""
        if self._daemon.process.poll() is not None:
            self.violations.append(f"{self.name} has ended by itself")
        if not self._log.exists():
            return self.violations
        lines = self._log.read_text(errors="replace").splitlines()
        found = [line for line in lines if _DEFECTS.search(line)]
        return [*self.violations, *(f"log of {self.name}: {line}" for line in found)]

    def end(self) -> None:
        self._daemon.client.close()
        if self._daemon.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()

    def _make(self, changed: Mapping[str, object]) -> Daemon:
        daemon = Daemon(self._log, {**self._variables, **changed}, address=self.address)
        daemon.group = self._group
        return daemon
