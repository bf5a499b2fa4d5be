"""What happens to the cluster and to pg-status while the stacks work."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from tests.support.daemon import Daemon
from tests.support.switchover import switch_over

from pgstatus.demo.cluster import Cluster

AWAY_SECONDS = 30.0


class Observer:
    """When pg-status reports which master, by its own requests."""

    def __init__(self, url: str) -> None:
        self.changes: list[tuple[float, str]] = []
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def reported_at(self, master: str) -> float | None:
        """The first time at which this host was named."""
        return next((at for at, host in self.changes if host == master), None)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=0.5) as client:
            while not self._stopping.wait(0.005):
                try:
                    answer = client.get("/master")
                except httpx.HTTPError:
                    continue
                host = answer.text.strip() if answer.status_code == 200 else ""
                if not self.changes or self.changes[-1][1] != host:
                    self.changes.append((time.monotonic(), host))


@dataclass
class Run:
    """A scenario in progress.

    began: when it happened. over: when its effect is gone. late: the host that falls behind.
    """

    cluster: Cluster
    daemon: Daemon
    began: float = 0.0
    over: float = 0.0
    late: str = ""
    notes: list[str] = field(default_factory=list)

    def happens(self) -> None:
        self.began = time.monotonic()


def crash(run: Run) -> None:
    """The primary crashes, a replica is promoted."""
    run.happens()
    run.cluster.fail_over()
    time.sleep(8)


def switchover(run: Run) -> None:
    """A replica takes over, and the old primary continues as a standby on its address."""
    run.happens()
    switch_over(run.cluster)
    time.sleep(8)


def late(run: Run) -> None:
    """A replica does not replay for 8 seconds."""
    replica = run.cluster.replicas[0]
    run.late = replica.address
    run.happens()
    replica.sql("SELECT pg_wal_replay_pause()")
    time.sleep(8)
    run.over = time.monotonic()
    replica.sql("SELECT pg_wal_replay_resume()")
    time.sleep(3)


def restart(run: Run) -> None:
    """pg-status is killed and started again, three times."""
    run.happens()
    for _ in range(3):
        run.daemon.kill_and_relaunch()
        time.sleep(1)


def frozen(run: Run) -> None:
    """pg-status does not respond for 10 seconds; its connections stay open."""
    run.happens()
    run.daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(10)
    run.daemon.process.send_signal(signal.SIGCONT)
    time.sleep(2)


def away(run: Run) -> None:
    """pg-status is not running for 30 seconds."""
    run.happens()
    run.daemon.process.kill()
    run.daemon.process.wait()
    time.sleep(AWAY_SECONDS)
    run.daemon.launch()
    time.sleep(3)


def pairs(run: Run) -> None:
    """Nothing happens: write and read, as fast as possible."""


SCENARIOS: dict[str, Callable[[Run], None]] = {
    each.__name__: each for each in (crash, switchover, late, restart, frozen, away, pairs)
}
