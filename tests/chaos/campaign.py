"""What all campaigns have in common: a cluster, events in random order, options."""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.chaos.events import EVENTS, Event, wait_until_whole
from tests.chaos.truth import Truth

# Short, so that connections are renewed during the events.
_CONN_MAX_AGE_MS = 3000


@dataclass(frozen=True)
class Scene:
    """A running cluster, and a directory for logs."""

    directory: Path
    network: Network
    """.2 to .4 are the cluster's."""
    cluster: Cluster

    def variables(self, sleep_ms: int) -> dict[str, object]:
        """The configuration of a pg-status that checks the cluster."""
        return {
            "hosts": ",".join(server.address for server in self.cluster.servers),
            "pg_port": self.cluster.primary.port,
            "sleep_ms": sleep_ms,
            "conn_max_age_ms": _CONN_MAX_AGE_MS,
        }


@contextmanager
def a_scene(bindir: str | None) -> Iterator[Scene]:
    """Start the cluster; everything is removed at the end, also after a signal."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _end)
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        directory = Path(tempfile.mkdtemp(prefix="pg-status-chaos-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        addresses = [network.address(last) for last in (2, 3, 4)]
        source = Path(bindir) if bindir else bundled("18")
        cluster = Cluster(source, directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        cluster.start()
        yield Scene(directory, network, cluster)


def run_events(
    truth: Truth,
    chance: random.Random,
    options: argparse.Namespace,
    events: Sequence[Event] = EVENTS,
    around: Callable[[Event], AbstractContextManager[object]] = lambda event: nullcontext(),
) -> None:
    """Cause events for ``options.seconds``; each of them within the context ``around`` it."""
    ends = time.monotonic() + options.seconds
    chosen = [event for event in events if not options.event or event.__name__ in options.event]
    order = _in_random_order(chosen, chance)
    while time.monotonic() < ends:
        event = next(order)
        report(f"  {event.__name__}: {event.__doc__}")
        with around(event):
            event(truth, chance)
            wait_until_whole(truth.cluster)
        time.sleep(chance.uniform(0.5, 1.5))
    # The response to the last event may not have arrived yet.
    time.sleep(options.sleep_ms / 1000 + 1)


def common_options(
    prog: str, description: str | None, events: Sequence[Event] = EVENTS
) -> argparse.ArgumentParser:
    """Those of every campaign."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--sleep-ms", type=int, default=1000)
    parser.add_argument("--bindir", help="PostgreSQL programs (default: 18 of the extra 'demo')")
    names = [event.__name__ for event in events]
    parser.add_argument("--event", action="append", default=[], choices=names, help="only this one")
    return parser


def report(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def finish(status: int) -> None:
    """End the process. Threads that write may still be in libpq, which crashes if the interpreter
    is finalized.
    """
    os._exit(status)


def _end(signum: int, frame: object) -> None:
    # A second signal must not interrupt the cleanup.
    for further in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(further, signal.SIG_IGN)
    sys.exit(128 + signum)


def _in_random_order(events: Sequence[Event], chance: random.Random) -> Iterator[Event]:
    """All events in random order, again and again."""
    while True:
        yield from chance.sample(events, len(events))
