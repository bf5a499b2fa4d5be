"""``python -m tests.chaos``: run a campaign and report its verdict; exit status 1 if it failed."""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.chaos.events import EVENTS, Event, wait_until_whole
from tests.chaos.health import Health
from tests.chaos.observer import Observer
from tests.chaos.report import judge
from tests.chaos.truth import Truth
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

# Short, so that connections are renewed during the events.
_CONN_MAX_AGE_MS = 3000


def main() -> int:
    options = _options()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _end)
    chance = random.Random(options.seed)
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        directory = Path(tempfile.mkdtemp(prefix="pg-status-chaos-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        addresses = [network.address(last) for last in (2, 3, 4)]
        source = Path(options.bindir) if options.bindir else bundled("18")
        cluster = Cluster(source, directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        cluster.start()
        variables = {
            "hosts": ",".join(addresses),
            "pg_port": cluster.primary.port,
            "sleep_ms": options.sleep_ms,
            "conn_max_age_ms": _CONN_MAX_AGE_MS,
        }
        daemon = Daemon(directory / "daemon.log", variables, address=network.address(1))
        undo.enter_context(daemon)
        for url in options.url:
            _await_other(url, variables, cluster)
        truth = Truth(cluster)
        undo.callback(truth.stop)
        health = Health(truth)
        health.start()
        undo.callback(health.stop)
        observers = [Observer(url, truth) for url in (daemon.url, *options.url)]
        for observer in observers:
            observer.start()
            undo.callback(observer.stop)

        _print(f"seed {options.seed}, {options.seconds} s, sleep_ms={options.sleep_ms}")
        ends = time.monotonic() + options.seconds
        events = _events(options.event, chance)
        while time.monotonic() < ends:
            event = next(events)
            _print(f"  {event.__name__}: {event.__doc__}")
            event(truth, chance)
            wait_until_whole(cluster)
            time.sleep(chance.uniform(0.5, 1.5))
        # The response to the last event may not have arrived yet.
        time.sleep(options.sleep_ms / 1000 + 1)
        sleep = options.sleep_ms / 1000
        verdicts = [judge(truth, health, o, time.time(), sleep) for o in observers]
        log = daemon.log
    for verdict in verdicts:
        _print(f"\n{verdict}")
    if not verdicts[0].problems:
        return 0
    repeat = f"make chaos SEED={options.seed} SECONDS={options.seconds}"
    _print(f"\n{log}\nrepeat the campaign with: {repeat}")
    return 1


def _end(signum: int, frame: object) -> None:
    # A second signal must not interrupt the cleanup.
    for further in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(further, signal.SIG_IGN)
    sys.exit(128 + signum)


def _events(names: list[str], chance: random.Random) -> Iterator[Event]:
    """All events in random order, again and again."""
    chosen = [event for event in EVENTS if not names or event.__name__ in names]
    while True:
        yield from chance.sample(chosen, len(chosen))


def _await_other(url: str, variables: dict[str, object], cluster: Cluster) -> None:
    _print(f"start the pg-status at {url} now, with")
    for name, value in variables.items():
        _print(f"  export pg_status__{name}={value}")
    _print("  (user, password and database: postgres)")

    def reports_the_primary() -> bool:
        try:
            return httpx.get(f"{url}/master").text.strip() == cluster.primary.address
        except httpx.TransportError:
            return False

    wait_until(f"{url} reports the primary", reports_the_primary, timeout=300)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--sleep-ms", type=int, default=1000)
    parser.add_argument("--bindir", help="PostgreSQL programs (default: 18 of the extra 'demo')")
    parser.add_argument("--url", action="append", default=[], help="another pg-status to compare")
    names = [event.__name__ for event in EVENTS]
    parser.add_argument("--event", action="append", default=[], choices=names, help="only this one")
    return parser.parse_args()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    status = main()
    # Threads that write may still be in libpq, which crashes if the interpreter is finalized.
    os._exit(status)
