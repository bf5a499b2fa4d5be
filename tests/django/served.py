"""The example project under gunicorn, and clients that write and read all the time."""

import os
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from pgstatus.demo.cluster import Cluster
from tests.support.running import Program, Running, answers
from tests.support.waiting import wait_until


class Gunicorn(Program):
    """``gunicorn examples.django.wsgi``."""

    def __init__(self, log: Path, pg_status: str, address: str, port: int) -> None:
        command = [
            sys.executable, "-m", "gunicorn", "examples.django.wsgi", "--bind", f"{address}:{port}",
            "--config", "python:tests.django.gunicorn_conf",
        ]  # fmt: skip
        super().__init__(command, log, os.environ | {"PG_STATUS_URL": pg_status})
        self.url = f"http://{address}:{port}"

    def answers(self) -> bool:
        with httpx.Client(base_url=self.url, timeout=5) as client:
            return answers(client, "/notes")


@dataclass(frozen=True)
class Pair:
    """A write and the read of the same client that followed it. ``error``: what has failed."""

    body: str
    written_by: str | None
    read_from: str | None = None
    error: str | None = None
    is_missing: bool = False


class Clients(Running):
    """Write-then-read pairs, by ``count`` clients with cookies of their own."""

    def __init__(self, url: str, count: int = 4) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(count)
        ]
        self.pairs: list[Pair] = []

    def launch(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.error is not None]

    def readers(self, since: int = 0) -> Counter[str | None]:
        """How many reads each host has served."""
        return Counter(pair.read_from for pair in self.pairs[since:] if pair.read_from)

    def wait_for(self, count: int) -> None:
        """Wait for this many further pairs."""
        enough = len(self.pairs) + count
        wait_until(f"{count} further pairs", lambda: len(self.pairs) >= enough, 60)

    def wait_for_writes_to(self, host: str) -> int:
        """Wait until each client has written to ``host``; the number of pairs before that."""
        since = len(self.pairs)

        def all_have() -> bool:
            recent = self.pairs[since:]
            writers = {pair.body.partition(" ")[0] for pair in recent if pair.written_by == host}
            return len(writers) == len(self._threads)

        wait_until(f"all clients write to {host}", all_have, 60)
        return len(self.pairs)

    def stale(self, cluster: Cluster) -> list[Pair]:
        """Reads that have not found a row which exists: a crash may have lost others."""
        missing = [pair for pair in self.pairs if pair.is_missing]
        bodies = {body for (body,) in cluster.primary.sql("SELECT body FROM notes_note")}
        return [pair for pair in missing if pair.body in bodies]

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            serial = 0
            while not self._stopping.is_set():
                serial += 1
                body = f"client{number} {serial}"
                try:
                    pair = self._pair(client, body)
                except httpx.TransportError as error:
                    pair = Pair(body, None, error=repr(error))
                self.pairs.append(pair)
                if pair.error is not None:
                    time.sleep(0.01)  # a client does not repeat failed requests without a pause

    def _pair(self, client: httpx.Client, body: str) -> Pair:
        written = client.post("/notes", params={"body": body})
        if written.status_code != httpx.codes.CREATED:
            return Pair(body, None, error=f"write: {written.status_code}")
        note = written.json()
        read = client.get(f"/notes/{note['id']}")
        match read.status_code:
            case httpx.codes.OK if read.json()["body"] == body:
                return Pair(body, note["host"], read.json()["host"])
            case httpx.codes.OK | httpx.codes.NOT_FOUND:
                return Pair(body, note["host"], is_missing=True)
        return Pair(body, note["host"], error=f"read: {read.status_code}")
