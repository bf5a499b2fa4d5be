"""``python -m tests.chaos``: run a campaign and report; exit 1 if anything inexcusable happened."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.chaos.events import EVENTS, wait_until_whole
from tests.chaos.observer import Observer
from tests.chaos.report import judge
from tests.chaos.truth import Truth
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


def main() -> int:
    options = _options()
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
        }
        daemon = Daemon(directory / "daemon.log", variables, address=network.address(1))
        undo.enter_context(daemon)
        for url in options.url:
            _await_other(url, variables, cluster)
        truth = Truth(cluster)
        undo.callback(truth.stop)
        observers = [Observer(url, truth) for url in (daemon.url, *options.url)]
        for observer in observers:
            observer.start()
            undo.callback(observer.stop)

        _say(f"seed {options.seed}, {options.seconds} s, sleep_ms={options.sleep_ms}")
        ends = time.monotonic() + options.seconds
        while time.monotonic() < ends:
            event = chance.choice(EVENTS)
            _say(f"  {event.__name__}: {event.__doc__}")
            event(truth, chance)
            wait_until_whole(cluster)
            time.sleep(chance.uniform(0.5, 1.5))
        # The last event's answer may still be on its way.
        time.sleep(options.sleep_ms / 1000 + 1)
        verdicts = [judge(truth, o, time.time(), options.sleep_ms / 1000) for o in observers]
        log = daemon.log
    for verdict in verdicts:
        _say(f"\n{verdict}")
    if not verdicts[0].is_good:
        _say(f"\n{log}\nreplay it: make chaos SEED={options.seed} SECONDS={options.seconds}")
    return 0 if verdicts[0].is_good else 1


def _await_other(url: str, variables: dict[str, object], cluster: Cluster) -> None:
    _say(f"start the pg-status at {url} now, with")
    for name, value in variables.items():
        _say(f"  export pg_status__{name}={value}")
    _say("  (user, password and database: postgres)")

    def names_the_primary() -> bool:
        try:
            return httpx.get(f"{url}/master").text.strip() == cluster.primary.address
        except httpx.TransportError:
            return False

    wait_until(f"{url} names the primary", names_the_primary, timeout=300)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--sleep-ms", type=int, default=1000)
    parser.add_argument("--bindir", help="PostgreSQL's programs (default: 18 of the extra)")
    parser.add_argument("--url", action="append", default=[], help="another pg-status to compare")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
