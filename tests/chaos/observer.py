"""Clients that query one pg-status continuously, use its responses, and record them."""

import contextlib
import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.chaos.truth import DIVERGED, Truth
from tests.support.events import Subscriber

_MASTER_EVERY = 0.01
_READ_EVERY = 0.02
_CLAIMS_EVERY = 0.1
# Seconds. A process that was frozen may have chosen its response at the end of this time.
_SLOW = 0.25
# The clocks of two processes on one busy machine.
_TOLERANCE = 0.1

READS = (
    "/replica", "/replica?lag_ms=1000", "/replica?lag_bytes=1000000", "/sync_by_time",
    "/sync_by_bytes", "/sync_by_time_or_bytes", "/sync_by_time_and_bytes",
)  # fmt: skip


@dataclass
class MasterAnswer:
    """``/master`` has returned ``host`` (empty: none) since ``at``."""

    at: float
    host: str


@dataclass
class Read:
    """A request for a replica. ``host`` is empty if no host was returned."""

    path: str
    began: float
    ended: float
    host: str
    text: str


@dataclass
class Observer:
    """Requests ``/master`` every 10 ms and writes a row there when the response changes, requests
    replicas with limits every 20 ms, and verifies every 100 ms what ``/hosts`` states of replicas.
    Beside that it watches the master with ``/watch``, if this pg-status has it.
    """

    url: str
    truth: Truth
    pace: float = 1.0
    """Factor of the times between two requests, if there are several observers."""
    answers: list[MasterAnswer] = field(default_factory=list)
    notified: list[MasterAnswer] = field(default_factory=list)
    """The same from the events of ``/watch/master``."""
    read: list[Read] = field(default_factory=list)
    false_in_sync: list[str] = field(default_factory=list)
    claims: int = 0
    requests: int = 0
    failed: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        work: tuple[Callable[[], None], ...] = (
            self._poll_master,
            self._watch_master,
            self._read_continuously,
            self._verify,
        )
        self._threads = [threading.Thread(target=one, daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)

    def _get(
        self, connection: http.client.HTTPConnection, path: str, accept: str = "*/*"
    ) -> tuple[int, str] | None:
        """Status and text; None: no response."""
        try:
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            self.failed += 1
            connection.close()
            return None

    def _watch_master(self) -> None:
        parts = urlsplit(self.url)
        while not self._stopping.wait(self.pace * _MASTER_EVERY):
            with (
                contextlib.suppress(OSError, EOFError),
                Subscriber.connect((parts.hostname or "", parts.port), "/watch/master") as stream,
            ):
                if not stream.head.startswith("HTTP/1.1 200"):
                    return  # another program
                while not self._stopping.is_set():
                    hosts = stream.hosts()
                    at = time.time()
                    self.notified.append(MasterAnswer(at, hosts[0] if hosts else ""))

    def _poll_master(self) -> None:
        connection = self._connect()
        while not self._stopping.wait(self.pace * _MASTER_EVERY):
            at = time.time()
            response = self._get(connection, "/master")
            if response is None:
                continue
            self.requests += 1
            if time.time() - at > _SLOW:
                at = time.time()
            host = response[1] if response[0] == 200 else ""
            if not self.answers or self.answers[-1].host != host:
                self.answers.append(MasterAnswer(at, host))
                if host:
                    threading.Thread(target=self._write, args=(host, at), daemon=True).start()
        connection.close()

    def _write(self, host: str, answered: float) -> None:
        """Write as an application would."""
        server = next(s for s in self.truth.cluster.servers if s.address == host)
        with contextlib.suppress(psycopg.Error), self.truth.session(server) as connection:
            connection.execute(
                "INSERT INTO written SELECT %s, %s, timeline_id, %s FROM pg_control_checkpoint()",
                [time.time(), self.url, answered],
            )

    def _read_continuously(self) -> None:
        connection = self._connect()
        for path in itertools.cycle(READS):
            if self._stopping.wait(self.pace * _READ_EVERY):
                break
            began = time.time()
            response = self._get(connection, path, accept="application/json")
            self.read.append(_read(path, began, response))
        connection.close()

    def _verify(self) -> None:
        connection = self._connect()
        while not self._stopping.wait(self.pace * _CLAIMS_EVERY):
            response = self._get(connection, "/hosts")
            if response is None:
                continue
            try:
                claims = json.loads(response[1])
            except ValueError:
                continue
            for claim in claims if isinstance(claims, list) else []:
                self._verify_claim(claim)
        connection.close()

    def _verify_claim(self, claim: dict[str, Any]) -> None:
        """Query a replica that is reported in sync: what it lacks must be younger than its lag."""
        if not claim.get("sync_by_time") or claim.get("master") or not claim.get("checked_at"):
            return
        checked = datetime.fromisoformat(claim["checked_at"]).timestamp()
        server = next(s for s in self.truth.cluster.servers if s.address == claim["host"])
        period = self.truth.master
        try:
            with self.truth.session(server) as connection:
                missing = self.truth.missing_on(connection)
        except psycopg.Error:
            return  # it does not respond, so nothing can be compared
        if period is not self.truth.master or checked < period.began:
            return
        self.claims += 1
        what = f"{claim['host']} at {claim['checked_at']}"
        if missing == DIVERGED:
            self.false_in_sync.append(f"{what}: has lost data")
            return
        # The lag does not grow while the master is down, because nothing is committed.
        reference = min(checked, self.truth.last_commit + _TOLERANCE)
        # It continues to replay meanwhile: what it lacks now, it lacked at the check as well.
        if missing is not None and missing < reference - claim["lag_ms"] / 1000 - _TOLERANCE:
            self.false_in_sync.append(
                f"{what}: reported {claim['lag_ms']} ms, lacked "
                f"what had been committed {checked - missing:.3f} s before"
            )


def _read(path: str, began: float, response: tuple[int, str] | None) -> Read:
    status, text = response or (0, "no response")
    host = ""
    if status == 200:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            host = str(json.loads(text)["host"])
    return Read(path, began, time.time(), host, f"{status} {text[:400]}")
