"""The configurations and commands of docs/fleet.md, executed as written.

The names of hosts, watchers and files are replaced by those of the test.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.certificates import Certificates
from tests.support.daemon import Daemon
from tests.support.fleet import all_in_sync, is_master
from tests.support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs/fleet.md").read_text()
FILES = dict(re.findall(r"^```sh\n# ([\w-]+)\.env\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [
    block
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    if not block.startswith("# ")
]


class Page:
    """Starts instances with the files of the page."""

    def __init__(self, daemons: Daemons, cluster: Cluster, directory: Path) -> None:
        self._daemons = daemons
        self._cluster = cluster
        self._directory = directory
        servers = [*cluster.servers, *cluster.servers]  # both clusters have the same
        self._names = {f"pg{n}": server.address for n, server in enumerate(servers, 1)}
        self.watchers: list[Daemon] = []
        self.certificates: Certificates | None = None

    def start(self, *files: str) -> Daemon:
        variables: dict[str, object] = {"pg_port": self._cluster.primary.port}
        for line in "".join(FILES[file] for file in files).splitlines():
            name, _, value = line.removeprefix("pg_status__").partition("=")
            variables[name] = self._replaced(value)
        # The account of the test, and the address that is unused.
        variables.pop("pg_user", None)
        variables.pop("http_listen_address", None)
        daemon = self._daemons.prepare(None, **variables)
        if self.certificates is not None and "http_tls_cert" in variables:
            daemon.client.close()
            daemon.client = httpx.Client(
                base_url=f"https://{daemon.address}:{daemon.port}",
                verify=self.certificates.context(),
            )
        return self._daemons.enter(daemon)

    def start_watchers(self, *files: str) -> None:
        self.watchers = [self.start(*files) for _ in range(3)]

    def run(self, command: str, relay: Daemon) -> str:
        """The output of a command of the page, on the machine of a relay."""
        (self._directory / "pg-status.env").write_text(self._replaced(FILES["relay"]))
        command = command.replace("http://127.0.0.1:8000", relay.url)
        done = subprocess.run(
            ["bash", "-euc", self._replaced(command)],
            env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def _replaced(self, value: str) -> str:
        for name, address in self._names.items():
            value = value.replace(name, address)
        for number, watcher in enumerate(self.watchers, 1):
            value = value.replace(f"w{number}:8000", f"{watcher.address}:{watcher.port}")
        return value.replace("/etc/pg-status", str(self._directory))


@pytest.fixture
def page(daemons: Daemons, cluster: Cluster, tmp_path: Path) -> Page:
    return Page(daemons, cluster, tmp_path)


def test_all_files_are_tested() -> None:
    assert [*FILES] == [
        "watcher", "relay", "relay-with-fallback", "watcher-clusters", "relay-clusters",
        "watcher-tls", "relay-tls",
    ]  # fmt: skip


def test_watchers_and_relays(page: Page, cluster: Cluster) -> None:
    page.start_watchers("watcher")
    for file in ("relay", "relay-with-fallback"):
        relay = page.start(file)
        wait_until("all hosts are in sync", lambda r=relay: all_in_sync(r))  # type: ignore[misc]
        assert is_master(relay, cluster.primary)
    hosts, diagnosis = COMMANDS
    assert page.run(hosts, relay).count('"watcher"') == len(cluster.servers)
    found = page.run(diagnosis, relay)
    assert "OK: 3 of 3 upstreams deliver evidence" in found
    assert 'pg_status_upstream_up{upstream="direct"} 0.0' in found


def test_several_clusters(page: Page, cluster: Cluster) -> None:
    page.start_watchers("watcher-clusters")
    relay = page.start("relay-clusters")
    paths = "/c/orders/master", "/c/users/master"
    wait_until(
        "both masters are reported",
        lambda: {relay.get(path).text for path in paths} == {cluster.primary.address},
    )


def test_tokens_and_certificates(
    page: Page, cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    address = daemons.prepare(cluster).address
    page.certificates = Certificates(tmp_path, address)
    page.certificates.key.chmod(0o640)
    for name in ("tokens", "watchers-token"):
        (tmp_path / name).write_text("0123456789abcdef0123456789abcdef\n")
        (tmp_path / name).chmod(0o640)
    page.start_watchers("watcher", "watcher-tls")
    relay = page.start("relay-tls")
    wait_until("all hosts are in sync", lambda: all_in_sync(relay))
    assert is_master(relay, cluster.primary)
