"""``python -m tests.neighbours.screenshot FILE``: the status page after a failover, for the docs.

Two minutes of load with a replica whose replay is paused for a while, and a crash of the primary.
"""

import sys
import tempfile
import time
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import Clusters, Daemons
from tests.support.browser import browser
from tests.support.waiting import wait_until


def main(picture: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        network = Network()
        clusters, daemons = Clusters(network), Daemons(network, Path(directory))
        try:
            cluster = clusters.make()
            daemon = daemons.start(cluster, sleep_ms=1000)
            _run_load(cluster)
            with browser(Path(directory) / "profile") as page:
                page.prefer(reduced_motion="reduce")
                page.resize(1100, 900)
                page.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
                page.open(daemon.url)
                wait_until("the page is shown", lambda: page.text("#history li"))
                page.driver.save_screenshot(str(picture))
        finally:
            daemons.close()
            clusters.close()
            network.release()


def _run_load(cluster: Cluster) -> None:
    _write(cluster, 40)
    late = cluster.replicas[1]
    late.sql("SELECT pg_wal_replay_pause()")
    _write(cluster, 4)
    late.sql("SELECT pg_wal_replay_resume()")
    _write(cluster, 30)
    cluster.fail_over()
    _write(cluster, 40)


def _write(cluster: Cluster, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'pg-status', repeat('x', 1000))")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
