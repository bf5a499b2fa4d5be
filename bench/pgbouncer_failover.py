"""Measures the time from a promotion to the first transaction through PgBouncer.

``python -m bench.pgbouncer_failover [rounds]``: an application writes through PgBouncer
continuously while the primary crashes or freezes and a replica is promoted; with pgbouncer-follow
as a hook and as a poller. The results are in docs/pgbouncer.md. Requires pgbouncer (Debian:
pgbouncer).
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psycopg
from tests.support.daemon import Daemon
from tests.support.follower import Follower
from tests.support.running import Running
from tests.support.waiting import wait_until

from bench.place import a_place
from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import free_port

_PATIENCE = 60.0


class Application(Running):
    """Writes continuously on a persistent connection, and reconnects after an error."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done: list[tuple[float, str]] = []
        """Of each transaction: the time of its commit and its server."""
        self.errors: list[str] = []

    def launch(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stopping.set()
        self._thread.join()

    def first_on(self, server: Server) -> float | None:
        return next((at for at, address in self.done if address == server.address), None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(
                    self._conninfo, autocommit=True, prepare_threshold=None
                ) as connection:
                    self._write(connection)
            except psycopg.Error as error:
                self.errors.append(str(error).splitlines()[0])
                time.sleep(0.01)

    def _write(self, connection: psycopg.Connection) -> None:
        while not self._stopping.is_set():
            row = connection.execute(
                "INSERT INTO written DEFAULT VALUES RETURNING host(inet_server_addr())"
            ).fetchone()
            assert row is not None
            self.done.append((time.monotonic(), row[0]))
            time.sleep(0.005)


@contextmanager
def following(how: str, cluster: Cluster, follower: Follower, log: Path) -> Iterator[Daemon]:
    """pg-status with its defaults, and the script as its hook or as run by the packaged timer."""
    address = follower.bouncer.address
    variables: dict[str, object] = {
        "hosts": ",".join(server.address for server in cluster.servers),
        "pg_port": cluster.primary.port,
    }
    if how == "hook":
        variables["on_change"] = follower.command()
    daemon = Daemon(log, variables, address=address, port=free_port([address], 8000))
    with ExitStack() as undo:
        undo.enter_context(daemon)
        if how == "timer":
            line = f"while :; do {follower.command('-u', daemon.url)}; sleep 1; done"
            timer = subprocess.Popen(["sh", "-c", line], stderr=subprocess.DEVNULL)
            undo.callback(timer.wait)
            undo.callback(timer.terminate)
        yield daemon


def measure(cluster: Cluster, daemon: Daemon, application: Application, freeze: bool) -> float:
    """One failover: seconds from the moment at which the new primary accepts writes."""
    old = cluster.primary
    wait_until(
        "all replicas are in sync",
        lambda: all(h["sync_by_time"] for h in daemon.json("/hosts")),
        60,
    )
    before = len(application.done)
    wait_until("the application writes", lambda: len(application.done) > before + 20, _PATIENCE)
    if freeze:
        old.freeze()
    else:
        old.crash()
    heir = max(cluster.replicas_without(old), key=Server.lsn)
    cluster.promote(heir)
    promoted = time.monotonic()
    application.done.clear()
    wait_until("the application writes again", lambda: application.first_on(heir), _PATIENCE)
    first = application.first_on(heir)
    assert first is not None
    if freeze:
        old.crash()
    for replica in cluster.replicas_without(old):
        replica.follow(heir)
    cluster.rebuild(old)
    return first - promoted


def series(how: str, rounds: int, *, freeze: bool = False, **options: object) -> str:
    """Run a series of failovers; return the results as one line."""
    with ExitStack() as undo:
        place = undo.enter_context(a_place())
        directory, network, cluster = place.directory, place.network, place.cluster
        cluster.primary.sql("CREATE TABLE written (at timestamptz DEFAULT now())")
        (directory / "bouncer").mkdir()
        follower = Follower(directory / "bouncer", network.address(1), options=options)
        undo.enter_context(follower.bouncer)
        follower.point_at(cluster.primary)
        daemon = undo.enter_context(following(how, cluster, follower, directory / "daemon.log"))
        application = undo.enter_context(Application(follower.bouncer.conninfo()))
        took = [measure(cluster, daemon, application, freeze) for _ in range(rounds)]
    return (
        f"median {median(took):.2f} s, worst {max(took):.2f} s of {rounds}; "
        f"errors of the application: {', '.join(sorted(set(application.errors))) or 'none'} "
        f"({len(application.errors)})"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    runs: dict[str, Callable[[], str]] = {
        "hook, crash": lambda: series("hook", rounds),
        "timer, crash": lambda: series("timer", rounds),
        "hook, frozen": lambda: series("hook", rounds, freeze=True),
        "hook, crash, server_login_retry = 15": lambda: series("hook", 5, server_login_retry=15),
    }
    for title, run in runs.items():
        sys.stdout.write(f"{title}: {run()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
