"""pgbouncer-follow alone: what it writes and loads, what it leaves unchanged, what it rejects."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pgstatus.demo.binaries import children_of
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.conftest import ClusterFactory, DaemonFactory
from tests.neighbours.conftest import MakeFollower
from tests.support.bouncer import needs_pgbouncer
from tests.support.daemon import Daemon
from tests.support.follower import SCRIPT, TEMPLATE, Follower, environment
from tests.support.illhosts import listener
from tests.support.waiting import wait_until

pytestmark = needs_pgbouncer

UNITS = SCRIPT.parent

SEVERAL = """; comment: host=@HOST@
[databases]
app = host=@HOST@ port=@PORT@ dbname=postgres pool_size=5
app-2.old=host=@HOST@ port=@PORT@ dbname=postgres
behind = host=@HOST@ port=6000 dbname=postgres
app_ro = host=@REPLICA_HOST@ port=@REPLICA_PORT@ dbname=postgres
fixed = host=127.0.0.1 port=1
* = host=@HOST@ port=@PORT@
"""


def reloads(follower: Follower) -> int:
    return follower.bouncer.log.count("RELOAD command issued")


def targets(follower: Follower) -> dict[str, str]:
    rows = follower.bouncer.show("DATABASES")
    return {row["name"]: f"{row['host']}:{row['port']}" for row in rows}


def test_a_correct_state_is_left_unchanged(make_follower: MakeFollower) -> None:
    follower = make_follower()
    assert "follows the master a:5432" in follower.run(MASTER="a").stderr
    inode = follower.file.stat().st_ino
    for other in ({}, {"SYNC_REPLICAS": "b:5432"}, {"SPLIT_BRAIN": "a:5432 b:5432"}):
        done = follower.run(MASTER="a", **other)
        assert (done.returncode, done.stderr) == (0, "")
    assert follower.file.stat().st_ino == inode
    assert reloads(follower) == 1


def test_a_poller_queries_pgbouncer_once_a_minute(
    make_follower: MakeFollower, daemon: Daemon
) -> None:
    """PgBouncer logs each console connection; the file is compared at every run."""
    follower = make_follower()
    for _ in range(3):
        assert follower.run("-u", daemon.url).returncode == 0
    login = "db=pgbouncer"
    before = follower.bouncer.log.count(login)
    assert follower.run("-u", daemon.url).returncode == 0
    assert follower.bouncer.log.count(login) == before
    inode = follower.file.stat().st_ino
    for _ in range(2):
        a_minute_ago = time.time() - 61
        os.utime(follower.file, (a_minute_ago, a_minute_ago))
        assert follower.run("-u", daemon.url).returncode == 0
    assert follower.bouncer.log.count(login) == before + 2
    assert follower.file.stat().st_ino == inode
    assert reloads(follower) == 1


def test_one_of_several_clusters(
    make_follower: MakeFollower, cluster: Cluster, make_daemon: DaemonFactory
) -> None:
    """A cluster that does not exist changes nothing."""
    daemon = make_daemon(cluster, clusters="orders,users")
    follower = make_follower()
    done = follower.run("-u", f"{daemon.url}/c/orders")
    assert done.returncode == 0
    assert f"follows the master {cluster.primary.address}:" in done.stderr
    written = follower.file.read_text()
    done = follower.run("-u", f"{daemon.url}/c/other")
    assert done.returncode == 0
    assert "unknown cluster other" in done.stderr
    assert follower.file.read_text() == written


def test_a_long_server_login_retry_causes_a_warning(make_follower: MakeFollower) -> None:
    follower = make_follower(server_login_retry=15)
    assert "server_login_retry = 15: after a failed connection" in follower.run(MASTER="a").stderr


def test_several_databases_and_one_on_a_replica(make_follower: MakeFollower) -> None:
    follower = make_follower(SEVERAL)
    done = follower.run(MASTER="a", SYNC_REPLICAS="b:5433 c:5434")
    assert "follows the master a:5432 and the replica b:5433" in done.stderr
    found = targets(follower)
    del found["pgbouncer"]
    assert found == {
        "app": "a:5432",
        "app-2.old": "a:5432",
        "behind": "a:6000",
        "app_ro": "b:5433",
        "fixed": "127.0.0.1:1",
    }
    # A replica that is still in sync is kept, otherwise replaced; without replica the master is
    # used.
    for replicas, expected in (
        ("c:5434 b:5433", "b:5433"),
        ("c:5434", "c:5434"),
        ("", "a:5432"),
        ("b:5433", "b:5433"),
    ):
        assert follower.run(MASTER="a", SYNC_REPLICAS=replicas).returncode == 0
        assert targets(follower)["app_ro"] == expected
    assert reloads(follower) == 4


def test_databases_that_pgbouncer_creates_from_the_wildcard_follow_too(
    make_follower: MakeFollower, make_cluster: ClusterFactory
) -> None:
    """Databases of ``*`` are not shown before their first use."""
    cluster = make_cluster(replicas=1)
    old, new = cluster.servers
    follower = make_follower(TEMPLATE + "* = host=@HOST@ port=@PORT@ dbname=postgres\n")
    follower.point_at(old)
    with follower.bouncer.connect("made") as application:
        application.execute("BEGIN")  # is never committed
        follower.point_at(new)
        assert targets(follower)["made"] == f"{new.address}:{new.port}"
        with pytest.raises(Exception, match="database removed"):
            application.execute("SELECT 1")


def test_a_transaction_on_the_previous_replica_continues(
    make_follower: MakeFollower, cluster: Cluster
) -> None:
    first, second = cluster.replicas
    follower = make_follower(SEVERAL)
    replicas = [f"{server.address}:{server.port}" for server in (first, second)]
    follower.point_at(cluster.primary, SYNC_REPLICAS=replicas[0])
    with follower.bouncer.connect("app_ro") as application:
        application.execute("BEGIN")
        follower.point_at(cluster.primary, SYNC_REPLICAS=replicas[1])
        [(address,)] = application.execute("SELECT host(inet_server_addr())").fetchall()
        assert address == first.address
        application.execute("COMMIT")
        [(address,)] = application.execute("SELECT host(inet_server_addr())").fetchall()
        assert address == second.address


def test_the_file_keeps_owner_and_mode_and_a_symbolic_link_is_kept(
    make_follower: MakeFollower, directory: Path
) -> None:
    follower = make_follower()
    follower.file.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(follower.file, 65534, 65534)
    before = follower.file.stat()
    link = directory / "link.ini"
    link.symlink_to(follower.file)
    follower.file, file = link, follower.file
    assert follower.run(MASTER="a").returncode == 0
    after = file.stat()
    assert link.is_symlink()
    assert "host=a port=5432" in file.read_text()
    assert after.st_ino != before.st_ino, "the file is replaced"
    assert [after.st_mode, after.st_uid, after.st_gid] == [
        before.st_mode,
        before.st_uid,
        before.st_gid,
    ]
    assert {path.name for path in directory.glob("databases.ini.*")} == {
        "databases.ini.in",
        "databases.ini.loaded",
    }


def test_a_new_file_is_not_readable_for_others(make_follower: MakeFollower) -> None:
    """A template may contain passwords."""
    follower = make_follower()
    follower.file.unlink()
    follower.run(MASTER="a")
    assert follower.file.stat().st_mode & 0o777 == 0o640


def test_a_change_of_the_template_is_loaded_without_a_change_of_the_host(
    make_follower: MakeFollower,
) -> None:
    follower = make_follower()
    follower.run(MASTER="a")
    follower.template.write_text(TEMPLATE.rstrip() + " pool_size=3\n")
    # At this run the console cannot be reached.
    words = follower.words()
    words[2] += " connect_timeout=1 port=1"
    master = environment(MASTER="a")
    assert (
        subprocess.run(words, env=master, stderr=subprocess.DEVNULL, check=False).returncode == 69
    )
    assert "pool_size=3" in follower.file.read_text()
    assert follower.run(MASTER="a").returncode == 0
    [size] = [r["pool_size"] for r in follower.bouncer.show("DATABASES") if r["name"] == "postgres"]
    assert size == 3


def test_a_manual_change_of_the_file_is_reverted(make_follower: MakeFollower) -> None:
    follower = make_follower()
    follower.run(MASTER="a")
    follower.file.write_text("[databases]\npostgres = host=elsewhere\n")
    assert follower.run(MASTER="a").returncode == 0
    assert "host=a port=5432" in follower.file.read_text()
    assert targets(follower)["postgres"] == "a:5432"


def test_a_file_that_pgbouncer_does_not_load_is_an_error(make_follower: MakeFollower) -> None:
    """RELOAD itself reports success."""
    follower = make_follower()
    follower.run(MASTER="a")
    follower.template.write_text(TEMPLATE.replace("\n", "\nnot a valid line\n", 1))
    for _ in range(2):
        done = follower.run(MASTER="b")
        assert done.returncode == 69
        assert f"PgBouncer does not use {follower.file} for postgres" in done.stderr
    follower.template.write_text(TEMPLATE)
    assert follower.run(MASTER="b").returncode == 0
    assert targets(follower)["postgres"] == "b:5432"


@pytest.mark.parametrize(
    "hostile",
    [
        "a;b", "a b", "a\tport=1", "a\npostgres2 = host=evil", "a'", 'a"', "a\\", "a&", "a/b",
        "a,b", "@HOST@", "*", "%include", "#", "/run/postgresql", "-a", "a-", "a..b", ".", "ä",
        "1.2.3", "1.2.3.4.5", "1.2.3.256", "::1::2", ":::1", "1:2", "[::1", "g::1", "", "a" * 254,
    ],
)  # fmt: skip
def test_an_invalid_host_is_rejected(make_follower: MakeFollower, hostile: str) -> None:
    follower = make_follower()
    follower.run(MASTER="good")
    before = follower.file.read_text()
    done = follower.run(MASTER=hostile) if hostile else follower.run(MASTER="a", MASTER_PORT="")
    assert done.returncode == 65
    assert "rejected, not a host and port" in done.stderr
    assert follower.file.read_text() == before
    assert targets(follower)["postgres"] == "good:5432"


@pytest.mark.parametrize("port", ["", "0", "65536", "1e3", "-1", "05432", "5432 pool_size=0"])
def test_an_invalid_port_is_rejected(make_follower: MakeFollower, port: str) -> None:
    follower = make_follower()
    assert follower.run(MASTER="a", MASTER_PORT=port).returncode == 65
    assert follower.file.read_text() == ""


def test_an_invalid_replica_is_rejected(make_follower: MakeFollower) -> None:
    follower = make_follower(SEVERAL)
    for hostile in ("b", "b:x", "*:5432", "b;c:5432"):
        assert follower.run(MASTER="a", SYNC_REPLICAS=hostile).returncode == 65
    assert follower.file.read_text() == ""


@pytest.mark.parametrize(
    "host",
    [
        "a", "pg-1.example.org", "pg_1", "10.0.0.1",
        "::1", "fe80::1:2", "::ffff:10.0.0.1", "1:2:3:4:5:6:7:8",
    ],
)  # fmt: skip
def test_valid_names_and_addresses(make_follower: MakeFollower, host: str) -> None:
    follower = make_follower()
    assert follower.run(MASTER=host, MASTER_PORT="65535").returncode == 0
    assert targets(follower)["postgres"] == f"{host}:65535"


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (http(b"pg1:5432"), 0),
        (http(b"[::1]:5432\n"), 0),
        (http(b"pg1"), 65),
        (http(b"pg1:5432\npg2:5432"), 65),
        (http(b"<html>It works!</html>"), 65),
        (http(b"pg1:5432 pool_size=0"), 65),
        (http(b""), 0),
        (http(b"", "404 Not Found"), 0),
        (http(b'{"error_text": "split brain"}', "503 Service Unavailable"), 0),
        (http(b"pg1:5432", "500 Internal Server Error"), 69),
        (http(b"pg1:5432", "302 Found"), 69),
        (http(b"pg1:54", length=8), 69),
        (http(b"x" * 1_000_000), 69),
        (b"pg1:5432", 69),
    ],
    ids=[
        "name", "IPv6", "no port", "two lines", "HTML", "extra text", "empty", "404", "503",
        "500", "302", "truncated", "too long", "not HTTP",
    ],
)  # fmt: skip
def test_responses_over_http(
    make_follower: MakeFollower, network: Network, answer: bytes, status: int
) -> None:
    follower = make_follower()
    follower.run(MASTER="before")
    before = follower.file.read_text()
    address = network.address(1)
    with listener(address, answer) as port:
        done = follower.run("-u", f"http://{address}:{port}")
    assert done.returncode == status, done.stderr
    if status == 0 and b":5432" in answer:
        assert targets(follower)["postgres"] in {"pg1:5432", "::1:5432"}
    else:
        assert follower.file.read_text() == before
        assert done.stderr
        if status == 0:
            assert "no master: nothing changed" in done.stderr


def test_an_unreachable_pg_status_changes_nothing(make_follower: MakeFollower) -> None:
    follower = make_follower()
    done = follower.run("-u", "http://127.0.0.1:1")
    assert done.returncode == 69
    assert "no valid response of pg-status" in done.stderr
    assert follower.file.read_text() == ""


def test_the_poller_uses_a_replica_in_sync(
    make_follower: MakeFollower, cluster: Cluster, daemon: Daemon
) -> None:
    follower = make_follower(SEVERAL)
    for _ in range(4):
        done = follower.run("-u", f"{daemon.url}/")
        assert done.returncode == 0, done.stderr
    found = targets(follower)
    assert found["app"] == f"{cluster.primary.address}:{cluster.primary.port}"
    assert found["app_ro"] in {f"{r.address}:{r.port}" for r in cluster.replicas}
    assert reloads(follower) == 1, (
        "pg-status returns replicas in rotation; the script keeps the first one"
    )


def test_an_unresolved_split_brain_changes_nothing(
    make_follower: MakeFollower, make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    old, other = cluster.servers
    daemon = make_daemon(cluster, split_brain="none")
    follower = make_follower()
    follower.point_at(old)
    cluster.promote(other)
    wait_until("the split brain is reported", lambda: daemon.get("/master").status_code == 503)
    done = follower.run("-u", daemon.url)
    assert done.returncode == 0
    assert "split brain" in done.stderr
    both = f"{old.address}:{old.port} {other.address}:{other.port}"
    assert follower.run(MASTER="", MASTER_PORT="", SPLIT_BRAIN=both).returncode == 0
    assert targets(follower)["postgres"] == f"{old.address}:{old.port}"


def test_concurrent_runs_wait_for_each_other(make_follower: MakeFollower) -> None:
    follower = make_follower()
    directory = os.open(follower.file.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        runs = [
            subprocess.Popen(
                follower.words(), env=environment(MASTER=host), stderr=subprocess.DEVNULL
            )
            for host in ("a", "b", "c")
        ]
        wait_until("all runs wait", lambda: all(_waits(run.pid) for run in runs))
        assert follower.file.read_text() == ""
    finally:
        os.close(directory)
    assert [run.wait(30) for run in runs] == [0, 0, 0]
    assert reloads(follower) == 3
    assert f"host={targets(follower)['postgres'][0]} " in follower.file.read_text()


def _waits(pid: int) -> bool:
    try:
        return [Path(f"/proc/{c}/comm").read_text() for c in children_of(pid)] == ["flock\n"]
    except FileNotFoundError:  # another child that has ended
        return False


@pytest.mark.parametrize(
    "template",
    [
        "", "[databases]\n", "* = host=@HOST@\n", "; a = host=@HOST@\n", "# a = host=@HOST@\n",
        'a"b = host=@HOST@\n', "a b = host=@HOST@\n",
    ],
)  # fmt: skip
def test_an_invalid_template_is_rejected(make_follower: MakeFollower, template: str) -> None:
    follower = make_follower()
    follower.run(MASTER="a")
    before = follower.file.read_text()
    follower.template.write_text(template)
    done = follower.run(MASTER="b")
    assert done.returncode == 78
    assert str(follower.template) in done.stderr
    assert follower.file.read_text() == before


@pytest.mark.parametrize("word", ["@MASTER_HOST@", "@MASTER@", "@host@", "@REPLICA_PORTS@"])
def test_an_unknown_placeholder_is_rejected(make_follower: MakeFollower, word: str) -> None:
    follower = make_follower()
    follower.template.write_text(
        f"[databases]\n; a = host={word}\na = host=@HOST@ port=@PORT@\nb = host={word}\n"
    )
    done = follower.run(MASTER="a")
    assert done.returncode == 78
    assert f"{follower.template}, line 4:{word} is not a placeholder; use @HOST@" in done.stderr


def test_a_password_is_not_taken_for_a_placeholder(make_follower: MakeFollower) -> None:
    follower = make_follower()
    follower.template.write_text(follower.template.read_text() + "b = host=@HOST@ password=x@Y@z\n")
    assert follower.run(MASTER="a").returncode == 0
    assert "password=x@Y@z" in follower.file.read_text()


def test_an_invalid_command_line_is_rejected(make_follower: MakeFollower) -> None:
    follower = make_follower()
    for options in ([], ["-k", "soon"], ["-x"]):
        done = follower.run(*options)
        assert done.returncode == 64
        assert "usage: pgbouncer-follow [-u URL]" in done.stderr
    words = follower.words()
    words[-1] = "/nowhere/databases.ini"
    master = environment(MASTER="a")
    assert (
        subprocess.run(words, env=master, stderr=subprocess.DEVNULL, check=False).returncode == 73
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd (Debian: systemd)")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """With the script installed at the documented path."""
    script = tmp_path / "usr/local/sbin/pgbouncer-follow"
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    for name in ("pgbouncer-follow.service", "pgbouncer-follow.timer"):
        text = (UNITS / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/sbin/pgbouncer-follow", str(script)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
        + [str(tmp_path / f"pgbouncer-follow.{kind}") for kind in ("service", "timer")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
