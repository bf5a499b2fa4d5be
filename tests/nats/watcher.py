"""A watcher without PostgreSQL: a process that publishes synthetic evidence through NATS.

``python -m tests.nats.watcher CLUSTER HOST…`` with the variables ``pg_status__nats*``. Each line on
stdin is a change: the write position of the first host is from then on the number in it. Each
request for positions is a line of the log.
"""

import asyncio
import logging
import os
import sys

from pgstatus import clock
from pgstatus.core.snapshot import Host
from pgstatus.core.state import Look, Memory
from pgstatus.fleet.evidence import Condition, Evidence
from pgstatus.fleet.nats.publisher import NatsPublisher
from pgstatus.monitor.results import LatestResults
from pgstatus.monitor.thread import MonitoringThread
from tests.nats.following import nats_settings
from tests.support.world import master, replica

log = logging.getLogger(__name__)

_ROUND = 0.5


def main(cluster: str, names: list[str]) -> None:
    hosts = [Host(name, 5432) for name in names]
    results = LatestResults(hosts, lambda: publisher.recorded())  # noqa: PLW0108  # defined below
    memory = Memory(1, 7, frozenset({str(hosts[0])}), str(hosts[0]), frozenset())
    evidence = Evidence(results, lambda: Condition(memory, ready=True), _ROUND)
    thread = MonitoringThread()
    publisher = NatsPublisher(
        thread,
        nats_settings(os.environ),
        cluster,
        evidence,
        lambda seconds: log.info("positions %g", seconds),
    )
    lsn = 1000

    def check(*, matters: bool) -> None:
        now = clock.now() - 0.001
        for index in range(len(hosts)):
            result = master(now, lsn, 7) if index == 0 else replica(now, lsn, 7)
            results.record(index, Look.ROUND, result, dead=False, matters=matters)

    async def rounds() -> None:
        while True:
            check(matters=False)
            await asyncio.sleep(_ROUND)

    publisher.start()
    thread.run(rounds)
    for line in sys.stdin:
        lsn = int(line)
        thread.call(lambda: check(matters=True))
    publisher.stop()
    thread.stop(5)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    main(sys.argv[1], sys.argv[2:])
