"""The sessions that an instance has on a host, and the limits that apply to them."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network
from tests.conftest import POSTGRES, ClusterFactory, Clusters, Daemons
from tests.support.bouncer import Bouncer, needs_pgbouncer
from tests.support.configuration import Loader
from tests.support.probing import probing
from tests.support.waiting import wait_until

DEBIAN = "/usr/lib/postgresql/15/bin"
NAMES: LiteralString = (
    "SELECT application_name FROM pg_stat_activity WHERE usename = 'watcher' ORDER BY 1"
)
WATCHER: dict[str, Any] = {"pg_user": "watcher", "pg_password": "watcher"}
LIMIT: dict[str, LiteralString] = {
    "role watcher": "ALTER ROLE watcher CONNECTION LIMIT 10",
    "database postgres": "ALTER DATABASE postgres CONNECTION LIMIT 10",
}
PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()
SECTION = PAGE.partition("### Number of connections")[2].partition("\n## ")[0]


@pytest.fixture(scope="module", params=list(dict.fromkeys([*POSTGRES, DEBIAN])))
def server(request: pytest.FixtureRequest, session_clusters: Clusters) -> Server:
    """A primary with a role that only has LOGIN."""
    if request.param == DEBIAN and not Path(DEBIAN).exists():
        pytest.skip("PostgreSQL 15 is not installed")
    server = session_clusters.make(request.param, replicas=0).primary
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    return server


@pytest.fixture
def watcher(server: Server) -> Iterator[Server]:
    """The server, whose limits the test may change."""
    yield server
    server.sql("ALTER ROLE watcher CONNECTION LIMIT -1")
    server.sql("ALTER DATABASE postgres CONNECTION LIMIT -1")


def hosts_of(server: Server) -> str:
    return f"{server.address}:{server.port}"


@dataclass
class Report:
    """What `pg-status check` reports about one host."""

    verdict: str
    text: str
    limits: dict[str, tuple[int, int]]
    """What has a limit: the connections in use, and the limit."""
    remedies: list[str]


class Checks:
    """`pg-status check` of a server."""

    def __init__(self, daemons: Daemons, hosts: str, **variables: Any) -> None:
        self._environment = daemons.prepare(hosts=hosts, **variables).environment

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pgstatus", "check", *arguments], env=self._environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def report(self) -> Report:
        report = json.loads(self.run("--json"))
        (host,) = report["hosts"]
        limits = {one["limit_of"]: (one["used"], one["limit"]) for one in host["connections"]}
        remedies = [sql for sql in report["remedies"] if "CONNECTION LIMIT" in sql]
        return Report(host["verdict"], host["text"], limits, remedies)


@contextmanager
def connections(server: Server, count: int, user: str = "watcher") -> Iterator[None]:
    password = "watcher" if user == "watcher" else "postgres"
    with ExitStack() as undo:
        for _ in range(count):
            conninfo = f"{server.conninfo} user={user} password={password}"
            undo.enter_context(psycopg.connect(conninfo))
        yield
    wait_until("they have ended", lambda: len(server.sql(NAMES)) == 0)


def test_the_sessions_of_an_instance(make_cluster: ClusterFactory, daemons: Daemons) -> None:
    """One, with the name of the machine and the cluster; also after renewals and reloads."""
    server = make_cluster(replicas=0).primary
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    daemon = daemons.start(
        hosts=hosts_of(server), cluster_name="orders", conn_max_age_ms=300, **WATCHER
    )
    name = f"pg-status {socket.gethostname()}/orders"
    pid: LiteralString = "SELECT pid FROM pg_stat_activity WHERE usename = 'watcher'"
    seen: set[Any] = set()

    def renewed() -> bool:
        seen.update(server.sql(pid))
        assert set(server.sql(NAMES)) <= {(name,)}
        return len(seen) > 3

    wait_until("the session is renewed", renewed)
    wait_until("one session", lambda: len(server.sql(NAMES)) == 1)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("it is reloaded", lambda: "reloaded: " in daemon.log)
    wait_until("one session", lambda: len(server.sql(NAMES)) == 1)
    daemon.stop()
    wait_until("no session", lambda: not server.sql(NAMES))


def test_a_renewed_session_ends_before_the_next_check(server: Server) -> None:
    async def run() -> None:
        def pids() -> list[Any]:
            return server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'renewed'")

        async with probing(server, max_age=0.1, application_name="renewed") as probe:
            await probe.check()
            (before,) = await asyncio.to_thread(pids)
            await asyncio.sleep(0.1)
            await probe.check()

            def is_replaced() -> bool:
                found = pids()
                return len(found) == 1 and found != [before]

            await asyncio.to_thread(wait_until, "one new session", is_replaced)

    asyncio.run(run())


def test_a_name_of_the_user_takes_precedence(server: Server, tmp_path: Path) -> None:
    load = Loader(tmp_path)

    async def name_of(hosts: str, **env: str) -> Any:
        target = load(env, hosts=hosts, cluster_name="orders", **WATCHER).targets[0]
        async with probing(target) as probe:
            await probe.check()
            ((name,),) = await asyncio.to_thread(server.sql, NAMES)
        await asyncio.to_thread(wait_until, "no session", lambda: not server.sql(NAMES))
        return name

    uri = f"postgresql://{hosts_of(server)}/"
    own = f"pg-status {socket.gethostname()}/orders"
    assert asyncio.run(name_of(uri)) == own
    assert asyncio.run(name_of(uri, PGAPPNAME="mine")) == "mine"
    assert asyncio.run(name_of(uri, PGAPPNAME="")) == own
    assert asyncio.run(name_of(f"{uri}?application_name=its", PGAPPNAME="mine")) == "its"


@pytest.mark.parametrize("subject", LIMIT)
def test_check_warns_of_a_limit(watcher: Server, daemons: Daemons, subject: str) -> None:
    """With LOGIN alone; not after the SQL was executed that it prints."""
    check = Checks(daemons, hosts_of(watcher), **WATCHER)
    watcher.sql(LIMIT[subject])
    with connections(watcher, 6):
        report = check.report()
        assert report.limits[subject] == (6, 10)
        assert "connections" not in report.text
        assert report.remedies == []
    with connections(watcher, 7):
        report = check.report()
        assert report.limits[subject] == (7, 10)
        assert report.text.endswith(f"timeline 1; {subject}: 3 of 10 connections are free")
        assert report.verdict == "WARNING"
        (sql,) = report.remedies
        watcher.sql(sql)
        report = check.report()
        assert report.limits[subject] == (7, 20)
        assert "connections" not in report.text


def test_check_warns_of_a_server_with_few_free_slots(server: Server, daemons: Daemons) -> None:
    """max_connections is 60, and three of them are reserved for superusers."""
    check = Checks(daemons, hosts_of(server), **WATCHER)
    as_superuser = Checks(daemons, hosts_of(server))
    assert check.report().limits == {"server": (0, 57)}
    with connections(server, 30, "postgres"), connections(server, 22):
        report = check.report()
        assert report.limits == {"server": (52, 57)}
        assert report.text.endswith("; server: 5 of 57 connections are free")
        assert report.remedies == []
        report = as_superuser.report()
        assert (report.verdict, report.limits) == ("OK", {"server": (52, 60)})


def test_check_counts_neither_background_workers_nor_standbys(
    make_cluster: ClusterFactory, daemons: Daemons
) -> None:
    cluster = make_cluster(replicas=1)
    cluster.primary.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    check = Checks(daemons, hosts_of(cluster.primary), **WATCHER)
    wait_until("it streams", lambda: cluster.primary.sql("SELECT pid FROM pg_stat_replication"))
    wait_until("no other session", lambda: check.report().limits == {"server": (0, 57)})


def test_check_without_the_number_of_sessions(watcher: Server, daemons: Daemons) -> None:
    """A fact that the role may not read is not reported, and fails nothing."""
    check = Checks(daemons, hosts_of(watcher), **WATCHER)
    watcher.sql("ALTER ROLE watcher CONNECTION LIMIT 2")
    watcher.sql("REVOKE SELECT ON pg_catalog.pg_stat_activity FROM PUBLIC")
    try:
        report = check.report()
        assert report.limits == {}
        assert "connections" not in report.text
    finally:
        watcher.sql("GRANT SELECT ON pg_catalog.pg_stat_activity TO PUBLIC")
    text = check.run()
    assert re.search(r"^WARNING .*; role watcher: 2 of 2 connections are free$", text, re.MULTILINE)
    assert '\n    ALTER ROLE "watcher" CONNECTION LIMIT 10;\n' in text


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_check_through_pgbouncer(
    cluster: Cluster, daemons: Daemons, network: Network, tmp_path: Path, mode: str
) -> None:
    """The limits of the server do not apply to the clients of PgBouncer."""
    database = f"postgres = host={cluster.primary.address} port={cluster.primary.port}"
    with Bouncer(tmp_path, network.address(240), database, {"pool_mode": mode}) as bouncer:
        check = Checks(daemons, f"{bouncer.address}:{bouncer.port}")
        report = check.report()
        assert (report.verdict, report.limits) == ("OK", {})


def test_the_documented_commands(watcher: Server, daemons: Daemons, tmp_path: Path) -> None:
    """With them, an instance logs in although all other slots are in use."""
    [(version,)] = watcher.sql("SELECT current_setting('server_version_num')::int / 10000")
    commands = re.findall(r"^((?:ALTER|GRANT) .*?;)(?:\s*-- (?:.*PostgreSQL (\d+))?.*)?$",
                          SECTION, re.MULTILINE)  # fmt: skip
    assert len(commands) == 4
    for command, needs in commands:
        if version >= int(needs or 0):
            watcher.sql(command.replace("monitor", "watcher"))
    [(limit,)] = watcher.sql("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'watcher'")
    (instances,) = re.findall(r"CONNECTION LIMIT \d+; +-- (\d+) instances", SECTION)
    assert limit == 2 * int(instances) + 3
    watcher.stop()
    watcher.start()
    try:
        check = Checks(daemons, hosts_of(watcher), **WATCHER)
        assert check.report().limits["server"] == (0, 57)  # with a reserve that the role may use
        if version >= 16:
            watcher.sql("CREATE ROLE application LOGIN PASSWORD 'postgres'")
            reserved = int(watcher.sql("SHOW reserved_connections")[0][0])
            with connections(watcher, 57 - reserved, "application"):
                with pytest.raises(psycopg.OperationalError, match="remaining connection slots"):
                    psycopg.connect(f"{watcher.conninfo} user=application")
                assert check.report().limits["server"] == (57 - reserved, 57)
    finally:
        watcher.sql("ALTER SYSTEM RESET ALL")
