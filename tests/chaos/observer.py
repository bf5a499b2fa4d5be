"""A client that asks one pg-status all the time, acts on what it hears, and keeps the record."""

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.chaos.truth import Truth

_ASK_EVERY = 0.01
_JUDGE_EVERY = 0.1
# Between two clocks read by two processes of one busy machine.
_TOLERANCE = 0.1


@dataclass
class Answer:
    """``/master`` named ``host`` (empty: nobody) from ``at`` on."""

    at: float
    host: str


@dataclass
class Observer:
    """Asks ``/master`` every 10 ms and writes a row there whenever the answer changes; judges
    every 100 ms what ``/hosts`` claims of replicas.
    """

    url: str
    truth: Truth
    answers: list[Answer] = field(default_factory=list)
    false_in_sync: list[str] = field(default_factory=list)
    judged: int = 0
    asked: int = 0
    failed: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._ask, self._judge)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def get(self, connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)

    def _ask(self) -> None:
        connection = self.connect()
        while not self._stopping.wait(_ASK_EVERY):
            at = time.time()
            try:
                status, text = self.get(connection, "/master")
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()
                continue
            self.asked += 1
            host = text if status == 200 else ""
            if not self.answers or self.answers[-1].host != host:
                self.answers.append(Answer(at, host))
                if host:
                    threading.Thread(target=self._write, args=(host, at), daemon=True).start()
        connection.close()

    def _write(self, host: str, answered: float) -> None:
        """As an application would that was told where to go."""
        server = next(s for s in self.truth.cluster.servers if s.address == host)
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(server.conninfo, autocommit=True) as connection,
        ):
            connection.execute(
                "INSERT INTO written SELECT %s, %s, timeline_id, %s FROM pg_control_checkpoint()",
                [time.time(), self.url, answered],
            )

    def _judge(self) -> None:
        connection = self.connect()
        while not self._stopping.wait(_JUDGE_EVERY):
            try:
                _, text = self.get(connection, "/hosts")
                claims = json.loads(text)
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                continue
            for claim in claims if isinstance(claims, list) else []:
                self._judge_claim(claim)
        connection.close()

    def _judge_claim(self, claim: dict[str, Any]) -> None:
        """Read the replica that is said to be in sync; what it lacks must be younger than said."""
        if not claim.get("sync_by_time") or claim.get("master") or not claim.get("checked_at"):
            return
        checked = datetime.fromisoformat(claim["checked_at"]).timestamp()
        server = next(s for s in self.truth.cluster.servers if s.address == claim["host"])
        reign = self.truth.master
        try:
            missing = self.truth.missing_on(server)
        except psycopg.Error:
            return  # frozen or gone: nothing can be read there, neither right nor wrong
        if reign is not self.truth.master:
            return
        self.judged += 1
        # It replays on while we read: what it lacks now, it lacked at the check all the more.
        if missing is not None and missing < checked - claim["lag_ms"] / 1000 - _TOLERANCE:
            self.false_in_sync.append(
                f"{claim['host']} at {claim['checked_at']}: said {claim['lag_ms']} ms, lacked what "
                f"was written {checked - missing:.3f} s before"
            )
