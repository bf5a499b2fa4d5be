"""``/metrics`` of a real daemon with real clusters."""

import re
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.illhosts import listener
from tests.support.scrape import Scrape, counted, scrape
from tests.support.waiting import wait_until

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def test_failed_checks_by_cause(
    cluster: Cluster, make_daemon: DaemonFactory, network: Network
) -> None:
    primary, other = cluster.primary, cluster.replicas[0]
    closed, silent = network.address(250), network.address(251)
    with listener(silent, None, 5432):
        hosts = {
            primary.address: None,
            f"postgresql://postgres:wrong@{other.address}:{other.port}": "rejected",
            f"{closed}:1": "connect",
            f"{silent}:5432": "timeout",
            "no-such-host.invalid": "resolve",
        }
        daemon = make_daemon(hosts=",".join(hosts), pg_port=primary.port, connect_timeout=1)
        causes = dict(zip(scrape(daemon)["pg_status_host_up"], hosts.values(), strict=True))

        def failed() -> Counter[object]:
            return counted(daemon, "pg_status_failed_checks_total")

        wait_until("each has failed", lambda: len(failed()) == 4)
        first = failed()
        expected = {(cause, host) for (host,), cause in causes.items() if cause}
        assert set(first) == expected
        wait_until("each has failed again", lambda: len(failed() - first) == 4)
        assert set(failed()) == expected
        # A failed check is a check.
        seen = scrape(daemon)
        failures, checks = (
            seen["pg_status_failed_checks_total"],
            seen["pg_status_check_duration_seconds_count"],
        )
        assert all(checks[key[1:]] == failures[key] for key in expected)


def test_the_histogram_counts_the_checks(daemon: Daemon) -> None:
    def checks() -> dict[tuple[str, ...], float]:
        return scrape(daemon)["pg_status_check_duration_seconds_count"]

    before = checks()
    assert len(before) == 3
    wait_until(
        "more checks of each host", lambda: all(n > before[host] for host, n in checks().items())
    )
    seen = scrape(daemon)
    buckets = seen["pg_status_check_duration_seconds_bucket"]
    for (host,), count in seen["pg_status_check_duration_seconds_count"].items():
        of_host = [n for (name, _), n in buckets.items() if name == host]
        assert of_host == sorted(of_host)
        assert buckets[host, "+Inf"] == count
        assert 0 < seen["pg_status_check_duration_seconds_sum"][host,] < 10 * count


def test_a_failover(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster = make_cluster(replicas=2)
    daemon = make_daemon(cluster)
    names = {server: f"{server.address}:{server.port}" for server in cluster.servers}
    seen = scrape(daemon)
    assert set(seen["pg_status_role_changes_total"].values()) == {0}
    assert seen["pg_status_host_master"][names[cluster.primary],] == 1
    lost = cluster.fail_over()
    heir, third = names[cluster.primary], names[cluster.replicas_without(lost)[0]]
    wait_until("the new master", lambda: scrape(daemon)["pg_status_host_master"][heir,] == 1)
    wait_until(
        "the old one is dead", lambda: scrape(daemon)["pg_status_host_up"][names[lost],] == 0
    )
    seen = scrape(daemon)
    assert seen["pg_status_masters"] == {(): 1}
    assert seen["pg_status_host_timeline"][heir,] == 2
    assert seen["pg_status_role_changes_total"] == {(heir,): 1, (names[lost],): 0, (third,): 0}
    assert seen["pg_status_host_role"][names[lost], "unknown"] == 1
    cluster.rebuild(lost)
    wait_until(
        "it says it is a replica",
        lambda: scrape(daemon)["pg_status_host_role"][names[lost], "replica"] == 1,
    )
    changes = scrape(daemon)["pg_status_role_changes_total"]
    assert changes == {(heir,): 1, (names[lost],): 1, (third,): 0}


def test_a_reload_removes_the_series_of_a_removed_host_only(
    cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path
) -> None:
    env_file = tmp_path / "pg-status.env"

    def use(count: int) -> None:
        hosts = ",".join(server.address for server in cluster.servers[:count])
        env_file.write_text(
            f"pg_status__hosts={hosts}\npg_status__pg_port={cluster.primary.port}\n"
        )

    def reload(count: int) -> Scrape:
        use(count)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until("reloaded", lambda: len(scrape(daemon)["pg_status_host_up"]) == count)
        return scrape(daemon)

    use(3)
    daemon = make_daemon(env_file=env_file)
    names = [f"{server.address}:{server.port}" for server in cluster.servers]
    wait_until("some checks", lambda: min(_checks(scrape(daemon)).values()) > 5)
    before = scrape(daemon)
    after = reload(2)
    assert not any(names[2] in s.labels.values() for f in after.families for s in f.samples)
    for name in names[:2]:
        assert _checks(after)[name,] >= _checks(before)[name,]
    requests = "pg_status_http_requests_total"
    assert all(after[requests][kind] >= n for kind, n in before[requests].items())
    again = reload(3)
    assert _checks(again)[names[0],] >= _checks(after)[names[0],]
    assert _checks(again)[names[2],] < _checks(before)[names[2],]


def _checks(seen: Scrape) -> dict[tuple[str, ...], float]:
    return seen["pg_status_check_duration_seconds_count"]


def test_the_documentation_lists_exactly_these_metrics(daemon: Daemon) -> None:
    """With their types and labels."""
    page = (Path(__file__).parents[2] / "docs/monitoring.md").read_text()
    rows = re.findall(
        r"^\| `((?:pg_status|process)_\w+)` \| (\w+) \| (.*?) ?\|", page, re.MULTILINE
    )
    described = {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}
    assert len(described) == len(rows)
    assert described.pop("pg_status_upstream_up") == ("gauge", ["upstream"]), "of relays only"
    scrape(daemon)  # a request, for its series
    suffix = {"counter": "_total", "info": "_info"}
    assert described == {
        family.name + suffix.get(family.type, ""): (
            family.type,
            sorted({label for sample in family.samples for label in sample.labels} - {"le"}),
        )
        for family in scrape(daemon, OPENMETRICS).families
        if family.samples
    }


def test_openmetrics_and_text_have_the_same_series(daemon: Daemon) -> None:
    scrape(daemon)  # is a series of its own
    plain, modern = scrape(daemon), scrape(daemon, f"{OPENMETRICS},text/plain;q=0.1")
    assert plain.media_type.startswith("text/plain; version=0.0.4")
    assert modern.media_type.startswith("application/openmetrics-text; version=1.0.0")

    def series(seen: Scrape) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        samples = (sample for family in seen.families for sample in family.samples)
        return {(sample.name, frozenset(sample.labels.items())) for sample in samples}

    assert series(plain) == series(modern)


def test_an_unknown_value_has_no_sample(
    cluster: Cluster, daemons: Daemons, network: Network
) -> None:
    """First a host without a complete check, then a dead one: null in JSON, no sample here."""
    silent = network.address(250)
    hosts = ",".join([*(server.address for server in cluster.servers), f"{silent}:5432"])
    daemon = daemons.prepare(cluster, hosts=hosts, connect_timeout=3, max_fails=1)
    with listener(silent, None, 5432), daemon.launched():
        wait_until("the others were checked", lambda: _known(daemon) == 3)
        seen = scrape(daemon)
        assert seen["pg_status_ready"] == {(): 0}
        assert daemon.get("/master").status_code == 503
        assert (f"{silent}:5432",) in seen["pg_status_host_up"]
        _nothing_of(seen, f"{silent}:5432")
        wait_until("it is dead", daemon.is_ready)
        seen = scrape(daemon)
        assert seen["pg_status_host_up"][f"{silent}:5432",] == 0
        _nothing_of(seen, f"{silent}:5432")


def _known(daemon: Daemon) -> int:
    try:
        return len(scrape(daemon)["pg_status_host_lsn_bytes"])
    except httpx.TransportError:  # it has not begun to listen
        return 0


def _nothing_of(seen: Scrape, host: str) -> None:
    for word in ("timeline", "lag_seconds", "lag_bytes", "lsn_bytes", "evidence_age_seconds"):
        samples = seen[f"pg_status_host_{word}"]
        assert samples
        assert (host,) not in samples


_SLOW_IMPORT = """
import importlib.abc, pathlib, sys, time
from pgstatus.cli.main import main
asked, gate = map(pathlib.Path, sys.argv[1:])
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "prometheus_client":
            asked.touch()
            while not gate.exists():
                time.sleep(0.01)
sys.meta_path.insert(0, Slow())
sys.exit(main([]))
"""


def test_scrapes_delay_no_other_request(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    """The first scrape imports prometheus_client, which takes until the gate opens."""
    asked, gate = tmp_path / "asked", tmp_path / "gate"
    daemon = daemons.prepare(cluster)
    daemon.command = [sys.executable, "-c", _SLOW_IMPORT, str(asked), str(gate)]
    with daemon, ThreadPoolExecutor(2) as pool:
        try:
            scrapes = [pool.submit(scrape, daemon)]
            wait_until("the first imports", asked.exists)
            scrapes.append(pool.submit(scrape, daemon))
            for _ in range(200):
                assert daemon.text("/master") == cluster.primary.address
            assert not any(one.done() for one in scrapes)
        finally:
            gate.touch()
        for one in scrapes:
            assert one.result()["pg_status_ready"] == {(): 1}
