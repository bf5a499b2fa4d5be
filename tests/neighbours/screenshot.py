"""``python -m tests.neighbours.screenshot DIRECTORY``: the pictures of the documentation.

The status page at 1200 and 390 pixels, and ``pg-status hosts --watch`` on a terminal of 80 columns,
after two minutes of load with a replica whose replay is paused for a while, and a crash of the
primary; the overview of several clusters, one of which is this one.
"""

import sys
import tempfile
import time
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import Clusters, Daemons
from tests.support.browser import Browser, browser
from tests.support.several import definition, start_several
from tests.support.terminal import Terminal, terminal
from tests.support.waiting import wait_until


def main(pictures: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory, network = Path(name), Network()
        clusters, daemons = Clusters(network), Daemons(network, directory)
        try:
            cluster = clusters.make()
            daemon = daemons.start(cluster, sleep_ms=1000, cluster_name="orders")
            _run_load(cluster)
            command = [sys.executable, "-m", "pgstatus", "hosts", "--watch", "--color", "always"]
            environment = {**daemon.environment, "TERM": "xterm"}
            with browser(directory / "profile") as page, terminal(command, environment) as screen:
                screen.wait_for(" live")
                cluster.fail_over()
                _write(cluster, 2)
                _take(page, daemon.url, pictures)
                screen.wait_for("former master  dead")
                _take_terminal(page, screen, directory, pictures / "hosts.png")
                _take_several(daemons, clusters, cluster, page, directory, pictures)
        finally:
            daemons.close()
            clusters.close()
            network.release()


def _take(page: Browser, url: str, pictures: Path) -> None:
    page.prefer(reduced_motion="reduce", color_scheme="light")
    page.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    for file, width in (("status-page.png", 1200), ("status-page-phone.png", 390)):
        page.resize(width, 900)
        page.open(url)
        wait_until("it is shown", lambda: page.run("return document.querySelector('#history li')"))
        _save(page, width, pictures / file)


def _save(page: Browser, width: int, picture: Path) -> None:
    page.resize(width, page.run("return document.documentElement.scrollHeight"))
    page.driver.save_screenshot(str(picture))


def _take_several(
    daemons: Daemons, clusters: Clusters, late: Cluster, page: Browser, directory: Path, to: Path
) -> None:
    """A dead host, no master, a rejected configuration, and clusters without problems."""
    healthy = clusters.make()
    names = ("catalogue", "customers", "invoices", "payments", "search")
    files = {name: definition(healthy) for name in names}
    daemon = start_several(
        daemons,
        directory / "clusters",
        {
            **files,
            "orders": definition(late),
            "shipping": f"pg_status__hosts={healthy.primary.address}:1\n",
            "stock": "pg_status__hosts=pg1,,pg3\n",
        },
    )
    wait_until(
        "the others are in sync",
        lambda: [one["level"] for one in daemon.json("/clusters")].count("ok") == len(names),
    )
    page.resize(1200, 900)
    page.open(daemon.url)
    wait_until("it is shown", lambda: len(page.texts("#clusters tr")) == len(names) + 3)
    _save(page, 1200, to / "overview.png")


def _take_terminal(page: Browser, screen: Terminal, directory: Path, picture: Path) -> None:
    html = directory / "terminal.html"
    html.write_text(screen.html())
    page.driver.get(html.as_uri())
    width, height = page.run("const b = document.body; return [b.offsetWidth, b.offsetHeight]")
    page.resize(width, height, scale=1.5)
    page.driver.save_screenshot(str(picture))


def _run_load(cluster: Cluster) -> None:
    _write(cluster, 40)
    late = cluster.replicas[1]
    late.sql("SELECT pg_wal_replay_pause()")
    _write(cluster, 4)
    late.sql("SELECT pg_wal_replay_resume()")
    _write(cluster, 40)


def _write(cluster: Cluster, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'pg-status', repeat('x', 1000))")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
