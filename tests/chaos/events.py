"""The failures, one function each. Every one leaves the cluster whole again."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pgstatus.demo.binaries import children_of
from pgstatus.demo.cluster import Cluster, Server
from tests.chaos.truth import Truth

Event = Callable[[Truth, random.Random], None]


def crash(truth: Truth, chance: random.Random) -> None:
    """The primary crashes, a replica is promoted, the old one is rebuilt."""
    _fail_over(truth, chance, "crash", lambda old: old.crash())


def switchover(truth: Truth, chance: random.Random) -> None:
    """The primary is stopped cleanly, a replica is promoted, the old one is rebuilt."""
    _fail_over(truth, chance, "switchover", lambda old: old.stop(signal.SIGINT))


def return_of_the_old(truth: Truth, chance: random.Random) -> None:
    """The crashed primary comes back by itself, writable, and stays for a while."""

    def come_back(old: Server) -> None:
        old.start()
        _pass_time(chance, 2, 5)

    _fail_over(truth, chance, "return of the old", lambda old: old.crash(), come_back)


def frozen_primary(truth: Truth, chance: random.Random) -> None:
    """The primary stands still, a replica is promoted, the old one wakes up as a master."""

    def wake(old: Server) -> None:
        old.thaw()
        _pass_time(chance, 1, 3)

    _fail_over(truth, chance, "frozen primary", Server.freeze, wake)


def restart(truth: Truth, chance: random.Random) -> None:
    """The primary crashes and is started again before anybody is promoted."""
    truth.cluster.primary.crash()
    _pass_time(chance, 0.1, 2)
    truth.cluster.primary.start()


def frozen_replica(truth: Truth, chance: random.Random) -> None:
    """A replica stands still for a while."""
    replica = chance.choice(truth.cluster.replicas)
    replica.freeze()
    _pass_time(chance, 1, 5)
    replica.thaw()


def lost_replica(truth: Truth, chance: random.Random) -> None:
    """A replica crashes and comes back."""
    replica = chance.choice(truth.cluster.replicas)
    replica.crash()
    _pass_time(chance, 0.5, 3)
    replica.start()


def cut_receiver(truth: Truth, chance: random.Random) -> None:
    """A replica receives nothing more, and does not notice."""
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
    restart,
    frozen_replica,
    lost_replica,
    cut_receiver,
    paused_replay,
)


@contextlib.contextmanager
def frozen_receiver(replica: Server) -> Iterator[None]:
    """The WAL receiver stands still: its connection is up, and receive = replay."""
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
    """All replicas stream and have replayed what the primary has written."""
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
    lost_at = time.time()
    _pass_time(chance, 0, 1)
    heir = max(cluster.replicas_without(old), key=Server.lsn)
    promoting = time.time()
    cluster.promote(heir)
    truth.crowned(heir, name, lost_at, promoting)
    for replica in cluster.replicas_without(old):
        replica.follow(heir)
    _pass_time(chance, 0.5, 2)
    afterwards(old)
    cluster.rebuild(old)


def _pass_time(chance: random.Random, least: float, most: float) -> None:
    time.sleep(chance.uniform(least, most))
