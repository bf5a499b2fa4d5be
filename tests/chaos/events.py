"""The failures, one function each. Each of them leaves a complete cluster behind."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from pgstatus.demo.binaries import children_of
from pgstatus.demo.cluster import Cluster, Server
from tests.chaos.truth import Truth
from tests.support.scram import expensive_login

Event = Callable[[Truth, random.Random], None]

# A smart shutdown waits for all sessions; that of pg-status must end within this time.
_SMART_SHUTDOWN = 15.0


def crash(truth: Truth, chance: random.Random) -> None:
    """The primary crashes, a replica is promoted, the old primary is rebuilt."""
    _fail_over(truth, chance, "crash", Server.crash)


def switchover(truth: Truth, chance: random.Random) -> None:
    """The primary is stopped cleanly, a replica is promoted, the old primary is rebuilt."""
    _fail_over(truth, chance, "switchover", lambda old: old.stop(signal.SIGINT))


def return_of_the_old(truth: Truth, chance: random.Random) -> None:
    """The crashed primary is started again, accepts writes, and is rebuilt later."""

    def come_back(old: Server) -> None:
        old.start()
        _pass_time(chance, 2, 5)

    _fail_over(truth, chance, "return of the old", Server.crash, come_back)


def frozen_primary(truth: Truth, chance: random.Random) -> None:
    """The primary is frozen, a replica is promoted, the old primary continues as a master."""

    def wake(old: Server) -> None:
        old.thaw()
        _pass_time(chance, 1, 3)

    _fail_over(truth, chance, "frozen primary", Server.freeze, wake)


def two_promotions(truth: Truth, chance: random.Random) -> None:
    """The primary crashes, both replicas are promoted; later one of them is stopped."""
    cluster = truth.cluster
    old, replicas = cluster.primary, list(cluster.replicas)
    old.crash()
    _pass_time(chance, 0, 1)
    promoting = time.time()
    threads = [threading.Thread(target=replica.promote) for replica in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _pass_time(chance, 1, 3)
    successor, other = chance.sample(replicas, 2)
    other.crash()
    cluster.primary = successor
    # Without replicas it replaces the other one only when that is dead.
    truth.promoted(successor, "two promotions", promoting, patience=4.0)
    _pass_time(chance, 4, 6)
    for lost in (other, old):
        cluster.rebuild(lost)


def restored_copy(truth: Truth, chance: random.Random) -> None:
    """The primary is restored from a copy that its replicas are ahead of; they are rebuilt."""
    cluster = truth.cluster
    primary = cluster.primary
    copy = primary.data.with_suffix(".copy")
    primary.backup(copy)
    _pass_time(chance, 0.5, 2)
    primary.crash()
    promoting = time.time()
    primary.restore(copy)
    # Without writes the replicas stay ahead of it.
    with truth.idle():
        primary.start()
        truth.promoted(primary, "restored copy", promoting, patience=2.0)
        _pass_time(chance, 1, 3)
    _pass_time(chance, 1, 3)
    for replica in cluster.replicas:
        cluster.rebuild(replica)


def upgraded_primary(truth: Truth, chance: random.Random) -> None:
    """All servers are stopped; a new cluster takes the place of the old one."""
    cluster = truth.cluster
    for server in cluster.servers:
        server.stop()
    _pass_time(chance, 0.5, 2)
    primary = cluster.primary
    shutil.rmtree(primary.data)
    promoting = time.time()
    primary.initialize()
    primary.start()
    truth.recreated(primary, "upgrade", promoting, patience=2.0)
    for replica in cluster.replicas:
        _pass_time(chance, 0, 1)
        cluster.rebuild(replica)


def smart_shutdown(truth: Truth, chance: random.Random) -> None:
    """A host is shut down smartly, which waits for all sessions, and is started again."""
    server = chance.choice(truth.cluster.servers)
    with truth.paused():
        began = time.monotonic()
        server.stop(signal.SIGTERM)
        took = time.monotonic() - began
    if took > _SMART_SHUTDOWN:
        truth.violations.append(f"the smart shutdown of {server.address} took {took:.1f} s")
    _pass_time(chance, 0.5, 2)
    server.start()


def exhausted_slots(truth: Truth, chance: random.Random) -> None:
    """All connection slots of a host are in use for a while."""
    server = chance.choice(truth.cluster.servers)
    with contextlib.ExitStack() as connections:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                connections.enter_context(psycopg.connect(server.conninfo))
        _pass_time(chance, 4, 8)


def blocking_login(truth: Truth, chance: random.Random) -> None:
    """In the place of a replica, a server demands a login that takes seconds to compute."""
    replica = chance.choice(truth.cluster.replicas)
    replica.crash()
    with expensive_login(replica.address, replica.port, iterations=truth.login_iterations):
        _pass_time(chance, 3, 6)
    replica.start()


def restart(truth: Truth, chance: random.Random) -> None:
    """The primary crashes and is started again; no replica is promoted."""
    truth.cluster.primary.crash()
    _pass_time(chance, 0.1, 2)
    truth.cluster.primary.start()


def frozen_replica(truth: Truth, chance: random.Random) -> None:
    """A replica is frozen for a while."""
    replica = chance.choice(truth.cluster.replicas)
    replica.freeze()
    _pass_time(chance, 1, 5)
    replica.thaw()


def lost_replica(truth: Truth, chance: random.Random) -> None:
    """A replica crashes and is started again."""
    replica = chance.choice(truth.cluster.replicas)
    replica.crash()
    _pass_time(chance, 0.5, 3)
    replica.start()


def absent_replica(truth: Truth, chance: random.Random) -> None:
    """A replica crashes and is started again much later."""
    replica = chance.choice(truth.cluster.replicas)
    replica.crash()
    _pass_time(chance, 5, 8)
    replica.start()


def cut_receiver(truth: Truth, chance: random.Random) -> None:
    """A replica receives nothing, although its connection is open."""
    replica = chance.choice(truth.cluster.replicas)
    with frozen_receiver(replica):
        _pass_time(chance, 2, 5)


def paused_replay(truth: Truth, chance: random.Random) -> None:
    """A replica receives everything and replays nothing."""
    replica = chance.choice(truth.cluster.replicas)
    replica.sql("SELECT pg_wal_replay_pause()")
    _pass_time(chance, 2, 5)
    replica.sql("SELECT pg_wal_replay_resume()")


EVENTS: tuple[Event, ...] = (
    crash,
    switchover,
    return_of_the_old,
    frozen_primary,
    two_promotions,
    restored_copy,
    upgraded_primary,
    smart_shutdown,
    exhausted_slots,
    blocking_login,
    restart,
    frozen_replica,
    lost_replica,
    cut_receiver,
    paused_replay,
)


# Which watcher a relay believes is seen only if a host is down for longer than a success can count.
EVENTS_OF_A_FLEET: tuple[Event, ...] = (*EVENTS, absent_replica)


@contextlib.contextmanager
def frozen_receiver(replica: Server) -> Iterator[None]:
    """The WAL receiver is frozen: its connection is open, and receive = replay."""
    receivers = [
        pid
        for pid in children_of(replica.pid)
        if b"walreceiver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    for pid in receivers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in receivers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def wait_until_whole(cluster: Cluster) -> None:
    """All replicas have replayed what the primary has written."""
    target = cluster.primary.lsn()
    for replica in cluster.replicas:
        replica.wait_for(lambda r=replica: r.lsn() >= target, "does not catch up")  # type: ignore[misc]


def _fail_over(
    truth: Truth,
    chance: random.Random,
    name: str,
    lose: Callable[[Server], None],
    afterwards: Callable[[Server], None] = lambda old: None,
) -> None:
    cluster = truth.cluster
    old = cluster.primary
    lose(old)
    _pass_time(chance, 0, 1)
    successor = max(cluster.replicas_without(old), key=Server.lsn)
    promoting = time.time()
    cluster.promote(successor)
    truth.promoted(successor, name, promoting)
    for replica in cluster.replicas_without(old):
        replica.follow(successor)
    _pass_time(chance, 0.5, 2)
    afterwards(old)
    cluster.rebuild(old)


def _pass_time(chance: random.Random, least: float, most: float) -> None:
    time.sleep(chance.uniform(least, most))
