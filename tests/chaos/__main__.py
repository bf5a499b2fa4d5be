"""``python -m tests.chaos``: run a campaign and report its verdict; exit status 1 if it failed."""

import argparse
import random
import time
from contextlib import ExitStack

import httpx

from pgstatus.demo.cluster import Cluster
from tests.chaos.campaign import a_scene, common_options, finish, report, run_events
from tests.chaos.health import Health
from tests.chaos.observer import Observer
from tests.chaos.report import judge
from tests.chaos.truth import Truth
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until


def main() -> int:
    options = _options()
    chance = random.Random(options.seed)
    with ExitStack() as undo:
        scene = undo.enter_context(a_scene(options.bindir))
        variables = scene.variables(options.sleep_ms)
        log_file = scene.directory / "daemon.log"
        daemon = Daemon(log_file, variables, address=scene.network.address(1))
        undo.enter_context(daemon)
        for url in options.url:
            _await_other(url, variables, scene.cluster)
        truth = Truth(scene.cluster)
        undo.callback(truth.stop)
        health = Health(truth)
        health.start()
        undo.callback(health.stop)
        observers = [Observer(url, truth) for url in (daemon.url, *options.url)]
        for observer in observers:
            observer.start()
            undo.callback(observer.stop)

        report(f"seed {options.seed}, {options.seconds} s, sleep_ms={options.sleep_ms}")
        run_events(truth, chance, options)
        sleep = options.sleep_ms / 1000
        verdicts = [judge(truth, health, o, time.time(), sleep) for o in observers]
        log = daemon.log
    for verdict in verdicts:
        report(f"\n{verdict}")
    if not verdicts[0].problems:
        return 0
    repeat = f"make chaos SEED={options.seed} SECONDS={options.seconds}"
    report(f"\n{log}\nrepeat the campaign with: {repeat}")
    return 1


def _await_other(url: str, variables: dict[str, object], cluster: Cluster) -> None:
    report(f"start the pg-status at {url} now, with")
    for name, value in variables.items():
        report(f"  export pg_status__{name}={value}")
    report("  (user, password and database: postgres)")

    def reports_the_primary() -> bool:
        try:
            return httpx.get(f"{url}/master").text.strip() == cluster.primary.address
        except httpx.TransportError:
            return False

    wait_until(f"{url} reports the primary", reports_the_primary, timeout=300)


def _options() -> argparse.Namespace:
    parser = common_options("make chaos", __doc__)
    parser.add_argument("--url", action="append", default=[], help="another pg-status to compare")
    return parser.parse_args()


if __name__ == "__main__":
    finish(main())
