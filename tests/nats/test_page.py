"""The configuration of docs/nats.md, as it is written there."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.conftest import Daemons
from tests.nats.conftest import FollowingFactory, WatcherFactory, wait_for_age
from tests.support.daemon import Daemon
from tests.support.nats import NatsCluster
from tests.support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs/nats.md").read_text()


def block(name: str) -> str:
    """The code block after the comment with this name."""
    found = re.search(rf"<!-- {name} -->\n\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


def variables(name: str, servers: NatsCluster) -> dict[str, object]:
    """The variables of a block, with the addresses of these servers."""
    found = dict(re.findall(r"^pg_status__(\w+)=(.*)$", block(name), re.MULTILINE))
    urls = found["nats"]
    for server in servers.servers:
        urls = re.sub(rf"@{server.name}\b", f"@{server.address}:{server.port}", urls)
    return {**found, "nats": urls}


@pytest.fixture(scope="module")
def servers(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Three servers with the configuration of the page."""
    servers = NatsCluster(tmp_path_factory.mktemp("nats"), network)
    addresses = [server.address for server in servers.servers]
    routes = free_port(addresses, 6222)
    for server in servers.servers:
        monitoring = server.monitoring.base_url
        text = block("server").replace("server_name: n1", f"server_name: {server.name}")
        text = text.replace("port: 4222", f"listen: '{server.address}:{server.port}'")
        text = text.replace("port: 6222", f"listen: '{server.address}:{routes}'")
        text = text.replace("/var/lib/nats", f"'{server.store}'")
        for other in servers.servers:
            text = text.replace(f"nats://{other.name}:6222", f"nats://{other.address}:{routes}")
        server.file.write_text(f"{text}http: '{monitoring.host}:{monitoring.port}'\n")
    with servers:
        yield servers


def test_watchers_and_relays(
    servers: NatsCluster, cluster: Cluster, daemons: Daemons, undo: ExitStack
) -> None:
    hosts = {"hosts": ",".join(s.address for s in cluster.servers), "pg_port": cluster.primary.port}
    watcher = daemons.start(None, **variables("watcher", servers) | hosts)
    relay = daemons.start(None, **variables("relay", servers))
    wait_until("the master", lambda: relay.text("/master") == cluster.primary.address)
    with_fallback = daemons.start(
        None, **variables("relay", servers) | hosts | {"fallback_direct": "true"}
    )
    assert with_fallback.text("/master") == cluster.primary.address
    # A request that waits for a position is passed on.
    assert relay.get("/replica?min_lsn=FFFFFFFF/0&wait_ms=500").status_code == 200
    for daemon in (watcher, relay, with_fallback):
        assert "permissions violation" not in daemon.log
    done = subprocess.run(
        [sys.executable, "-m", "pgstatus", "check"],
        env=relay.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "4 of 4 NATS servers and watchers respond" in done.stdout
    assert re.search("nats:w1 +w1, version", done.stdout)
    wait_until("the bucket", lambda: servers.leader_of("KV_pg-status"))


def test_several_clusters_share_a_connection(
    servers: NatsCluster, cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    directory = tmp_path / "clusters.d"
    directory.mkdir()
    hosts = ",".join(server.address for server in cluster.servers)
    for name in ("users", "stock"):
        (directory / f"{name}.env").write_text(f"pg_status__hosts={hosts}\n")
    common = variables("watcher", servers)
    nats = {key: value for key, value in common.items() if key.startswith("nats")}
    watcher = daemons.start(
        None, clusters_dir=directory, pg_port=cluster.primary.port, **nats | {"nats_name": "many"}
    )
    followed = {"clusters": "users,stock", "nats": variables("relay", servers)["nats"]}
    relay = daemons.start(None, **followed)
    assert relay.text("/c/users/master") == relay.text("/c/stock/master") == cluster.primary.address
    assert connections(servers, watcher) == connections(servers, relay) == 1
    # The removal of a cluster does not affect the other.
    (directory / "stock.env").unlink()
    watcher.process.send_signal(signal.SIGHUP)
    wait_until("it is lost", lambda: "nats:many: no evidence" in relay.log)
    assert relay.text("/c/users/master") == cluster.primary.address
    assert connections(servers, watcher) == 1


def connections(servers: NatsCluster, daemon: Daemon) -> int:
    """The number of connections of its process to the servers."""
    ports = {f"{server.port:04X}" for server in servers.servers}
    inodes = {
        link.removeprefix("socket:[").rstrip("]")
        for file in Path(f"/proc/{daemon.pid}/fd").iterdir()
        if (link := str(file.readlink())).startswith("socket:[")
    }
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].partition(":")[2] in ports and line[9] in inodes for line in lines)


def test_a_relay_may_not_publish_evidence(
    servers: NatsCluster, start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watcher = start_watcher(variables("watcher", servers) | {"nats_name": "w2"})
    following = follow(variables("relay", servers))
    wait_for_age(following, "w2")
    forger = start_watcher(variables("relay", servers), "w3")
    wait_until(lambda: forger.log, lambda: "permissions violation" in forger.log)
    assert following.last("w3") is None
    assert "permissions" not in watcher.log
