"""``python -m bench.stacks [--stack NAME]… [--scenario NAME]… [--pairs N] [--users N]``.

All stacks of a run work at the same time, each in a process of its own, on one cluster of a primary
and two replicas and one pg-status. Each scenario has a new cluster.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.clusters import Clusters
from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

from bench.stacks.load import Operation, Task
from bench.stacks.report import HEADER, row
from bench.stacks.scenarios import SCENARIOS, Observer, Run
from bench.stacks.stack import TABLE, Place, names
from bench.stacks.worker import Worker
from bench.table import markdown
from pgstatus.demo.cluster import PASSWORD
from pgstatus.demo.network import Network, free_port

WARM_SECONDS = 3.0
LAG_MS = 500
# After this time, pg-status has noticed that a replica is late.
NOTICED_SECONDS = 2.0
# The space of values of each stack.
VALUES = 1_000_000_000


def write_messages(results: dict[str, list[Operation]], reported: float) -> None:
    for stack, operations in results.items():
        for each in operations:
            if each.error:
                at = each.ended - reported
                words = " ".join(each.message.split())
                sys.stdout.write(f"{stack} {each.kind} {at:+.3f} s {each.error}: {words}\n")


def play(scenario: str, options: argparse.Namespace) -> list[list[str]]:
    """The lines of the table."""
    with ExitStack() as undo:
        network = Network()
        undo.callback(network.release)
        clusters = Clusters(network)
        undo.callback(clusters.close)
        cluster = clusters.make()
        cluster.primary.sql(TABLE)
        hosts = tuple(server.address for server in cluster.servers)
        variables = {"hosts": ",".join(hosts), "pg_port": cluster.primary.port, "sleep_ms": 200}
        address = network.address(1)
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pg-status-bench-")))
        daemon = Daemon(
            directory / "log", variables, address=address, port=free_port([address], 8000)
        )
        undo.enter_context(daemon)
        wait_until("the replicas are in sync", lambda: all(
            host["sync_by_time"] for host in daemon.json("/hosts")
        ))  # fmt: skip
        place = Place(
            url=daemon.url,
            hosts=hosts,
            port=cluster.primary.port,
            user="postgres",
            password=PASSWORD,
            dbname="postgres",
            users=options.users,
            lag_ms=LAG_MS,
        )
        is_pairs = scenario == "pairs"
        workers = [
            Worker(Task(stack, place, (number + 1) * VALUES, 0.0 if is_pairs else 0.02,
                        options.pairs if is_pairs else 0))
            for number, stack in enumerate(options.stack or names())
        ]  # fmt: skip
        for worker in workers:
            worker.wait_until_ready()
        run = Run(cluster, daemon)
        with Observer(daemon.url) as observer:
            if not is_pairs:
                time.sleep(WARM_SECONDS)
                SCENARIOS[scenario](run)
                for worker in workers:
                    worker.stop()
            results = {worker.stack: worker.operations() for worker in workers}
        master = cluster.primary.address
        reported = observer.reported_at(master) or run.began
        late = (run.late, run.began + NOTICED_SECONDS, run.over)
        if options.messages:
            write_messages(results, reported)
        return [
            row(
                scenario,
                stack,
                operations,
                reported=reported,
                master=master,
                late=late,
            )
            for stack, operations in results.items()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stacks")
    parser.add_argument("--stack", action="append", choices=names(), help="default: all")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: all")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--messages", action="store_true", help="list the errors")
    options = parser.parse_args()
    table = []
    for scenario in options.scenario or SCENARIOS:
        table += play(scenario, options)
        sys.stdout.write(markdown(HEADER, table) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
