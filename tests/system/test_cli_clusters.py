"""The commands for people with an instance that monitors several clusters."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.reverse_proxy import reverse_proxy
from tests.support.several import several_clusters  # noqa: F401
from tests.support.terminal import COLUMNS, LINES, terminal
from tests.support.waiting import wait_until

Done = subprocess.CompletedProcess[str]


def run(daemon: Daemon, *arguments: str, **environment: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "pgstatus", *arguments],
        env={**daemon.environment, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def name(cluster: Cluster) -> str:
    return f"{cluster.primary.address}:{cluster.primary.port}"


@pytest.mark.parametrize("command", ["clusters", "hosts"])
def test_the_table_of_clusters_has_the_problems_first(
    several: Daemon, cluster: Cluster, command: str
) -> None:
    """`hosts` shows it, too, if no cluster is chosen."""
    done = run(several, command)
    assert (done.returncode, done.stderr) == (3, "")
    heading, table, details, hint = done.stdout.rstrip("\n").split("\n\n")
    assert "1 of 3 clusters with a master, 2 errors" in heading
    assert several.url in heading
    rows = [re.split(r"  +", line) for line in table.splitlines()]
    assert rows == [
        ["Cluster", "State", "Master", "Since", "In sync"],
        ["users", "no master", "-", "before the start", "0 of 0"],
        ["stock", "rejected", "-", "-", "0 of 0"],
        ["orders", "ok", name(cluster), "before the start", "2 of 2"],
    ]
    assert "\nstock  pg_status__hosts" in details, "without its name again"
    assert re.search(r"^users  no ", details, re.MULTILINE)
    assert hint == "pg-status hosts --cluster NAME shows the hosts of a cluster."


def test_a_path_without_a_cluster_lists_those_that_are_refused_too(several: Daemon) -> None:
    assert several.json("/master")["error_text"] == (
        "several clusters are configured: use /c/NAME/master, "
        "where NAME is one of orders, users, stock"
    )


def test_json_of_all_clusters(several: Daemon) -> None:
    document = json.loads(run(several, "clusters", "--json").stdout)
    assert set(document) == {"instance", "version", "now", "clusters"}
    assert [(one["name"], one["level"], one["state"]) for one in document["clusters"]] == [
        ("orders", "ok", "ok"),
        ("users", "error", "no master"),
        ("stock", "error", "rejected"),
    ]
    assert document["clusters"] == several.json("/clusters")


def test_the_cluster_is_chosen_by_option_url_or_environment(
    several: Daemon, cluster: Cluster
) -> None:
    url = f"{several.url}/c/orders"
    chosen: list[tuple[list[str], dict[str, str]]] = [
        (["--cluster", "orders"], {}),
        ([], {"PG_STATUS_CLUSTER": "orders"}),
        (["--url", url], {}),
        (["--url", f"{url}/"], {"PG_STATUS_CLUSTER": "users"}),
        (["--cluster", "orders"], {"PG_STATUS_URL": f"{several.url}/c/users"}),
        (["--url", several.url], {"PG_STATUS_CLUSTER": "orders"}),
    ]
    for options, environment in chosen:
        done = run(several, "hosts", *options, **environment)
        assert (done.returncode, done.stderr) == (0, ""), (options, environment)
        assert done.stdout.startswith("orders  on ")
        assert f"{several.url}/c/orders\n" in done.stdout
        assert f"master {name(cluster)}" in done.stdout
    done = run(several, "explain", "master", "--cluster", "orders")
    assert (done.returncode, done.stdout[:2]) == (0, "+ ")
    assert run(several, "hosts", "--cluster", "users").returncode == 3
    assert run(several, "explain", "master", "--cluster", "users").returncode == 3
    assert f"{several.url}\n" in run(several, "clusters", "--url", url).stdout


def test_below_a_path(several: Daemon) -> None:
    with reverse_proxy(several, "/ops/pg-status") as proxy:
        assert run(several, "hosts", "--url", f"{proxy.url}/c/orders").returncode == 0
        assert run(several, "hosts", "--url", proxy.url, "--cluster", "orders").returncode == 0
        assert run(several, "clusters", "--url", f"{proxy.url}/c/orders").returncode == 3
        assert proxy.requests == [
            *["/ops/pg-status/c/orders/overview"] * 2,
            "/ops/pg-status/overview",
        ]


@pytest.mark.parametrize(
    "command", [["hosts"], ["explain", "master"], ["health"], ["check"], ["check", "--config-only"]]
)
def test_an_unknown_cluster_is_an_error_that_lists_the_clusters(
    several: Daemon, command: list[str]
) -> None:
    done = run(several, *command, "--cluster", "order")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "pg-status: error: unknown cluster 'order' (did you mean orders?): "
        "expected one of orders, users, stock"
    )


def test_a_cluster_whose_configuration_cannot_be_used(several: Daemon) -> None:
    for command in (["hosts"], ["explain", "master"], ["health"]):
        done = run(several, *command, "--cluster", "stock")
        assert done.returncode == 1
        assert "cluster stock is not ready: its configuration cannot be used" in done.stderr


def test_an_explanation_requires_a_cluster(several: Daemon) -> None:
    done = run(several, "explain", "master")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "pg-status: error: several clusters are configured; choose one with --cluster: "
        "orders, users, stock"
    )
    wrong = run(several, "explain", "nothing", "--cluster", "orders")
    assert "unknown endpoint 'nothing'" in wrong.stderr


def test_health(several: Daemon) -> None:
    assert run(several, "health").stdout == "OK\n"
    assert run(several, "health", "--cluster", "orders").stdout == "OK\n"
    assert run(several, "health", "/live", "--cluster", "users").stdout == "OK\n"


def test_one_cluster_without_a_name(daemon: Daemon, cluster: Cluster) -> None:
    done = run(daemon, "clusters")
    assert done.returncode == 0
    assert re.search(
        rf"^-  +ok  +{name(cluster)}  +before the start  +2 of 2$", done.stdout, re.MULTILINE
    )
    assert "--cluster" not in done.stdout, "it would fail"
    for command in (["hosts"], ["check"]):
        done = run(daemon, *command, "--cluster", "orders")
        assert done.returncode == 1
        assert "unknown cluster 'orders': there is one cluster, without a name" in done.stderr


def test_check_has_a_section_for_each_cluster(several: Daemon, cluster: Cluster) -> None:
    done = run(several, "check")
    assert done.returncode == 1
    *sections, summary = done.stdout.rstrip("\n").split("\n\n")
    text = "\n\n".join(sections)
    assert re.match(r"orders\nOK  +\S+  master, ", text)
    assert f"OK: 3 of 3 hosts responded, master {name(cluster)}\n\nusers\nFAILED " in text
    assert "\n\nstock\ncluster stock: pg_status__hosts" in text
    assert text.endswith("FAILED: the configuration cannot be used")
    assert summary == "FAILED: 1 of 3 clusters are OK; FAILED: users, stock"
    report = json.loads(run(several, "check", "--json").stdout)
    assert (report["verdict"], report["summary"]) == ("FAILED", summary.removeprefix("FAILED: "))
    assert [(one["cluster"], one["verdict"]) for one in report["clusters"]] == [
        ("orders", "OK"), ("users", "FAILED"), ("stock", "FAILED"),
    ]  # fmt: skip
    assert len(report["clusters"][0]["hosts"]) == 3
    assert report["clusters"][2]["problems"]


def test_check_of_one_cluster_is_as_without_others(several: Daemon, cluster: Cluster) -> None:
    done = run(several, "check", "--cluster", "orders")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"OK: 3 of 3 hosts responded, master {name(cluster)}\n")
    report = json.loads(run(several, "check", "--json", PG_STATUS_CLUSTER="orders").stdout)
    assert len(report["hosts"]) == 3
    invalid = run(several, "check", "--cluster", "stock")
    assert (invalid.returncode, invalid.stdout) == (
        78, "FAILED: the configuration cannot be used\n"
    )  # fmt: skip
    assert "cluster stock: pg_status__hosts" in invalid.stderr


def test_check_of_the_configuration_alone(several: Daemon) -> None:
    done = run(several, "check", "--config-only")
    assert done.returncode == 1
    assert "cluster stock: pg_status__hosts" in done.stderr
    assert done.stdout == "FAILED: 2 of 3 clusters are OK; FAILED: stock\n"
    done = run(several, "check", "--config-only", "--cluster", "users")
    assert (done.returncode, done.stdout) == (0, "OK: the configuration can be used\n")


def test_a_hundred_clusters_on_a_small_terminal(several: Daemon) -> None:
    """Those with problems are shown, in colour; the others are counted. Changes appear."""
    overview = several.json("/overview")
    healthy, dead, invalid = overview["clusters"]
    names = [f"shop{number:02}" for number in range(80)]
    clusters = [*({**healthy, "name": one} for one in names), invalid]
    problems = [{**dead, "name": f"billing{number:02}"} for number in range(19)]
    command = [sys.executable, "-m", "pgstatus", "hosts", "--watch", "0.2", "--url"]
    with reverse_proxy(several) as proxy:

        def show(*clusters: object) -> None:
            text = json.dumps({**overview, "clusters": clusters})
            proxy.replaced["/overview"] = text.encode()

        show(*clusters, *problems)
        with terminal([*command, proxy.url], {**several.environment, "TERM": "xterm"}) as screen:
            screen.wait_for("80 of 100 clusters with a master, 20 errors")
            assert re.search(r"^\d\d more clusters, \d+ no master$", screen.text, re.MULTILINE)
            rows = [line.split()[0] for line in screen.lines[4:7]]
            assert rows == ["stock", "billing00", "billing01"]
            assert screen.colours("no master") == {"red"}
            assert max(map(len, screen.lines)) <= COLUMNS
            assert len([line for line in screen.lines if line]) > LINES - 6, "the height is used"

            show(*clusters, problems[0], *({**healthy, "name": "x"} for _ in problems[1:]))
            screen.wait_for("98 of 100 clusters with a master, 2 errors")
            assert [line.split()[0] for line in screen.lines[4:7]] == [
                "stock",
                "billing00",
                "shop00",
            ]

            proxy.close()
            screen.wait_for("pg-status is unavailable since ")
            wait_until("the table is grey", lambda: screen.colours("no master") == {"brightblack"})


def test_the_states_of_hidden_clusters_on_a_small_terminal(several: Daemon) -> None:
    overview = several.json("/overview")
    late = {**overview["clusters"][0], "level": "warning", "state": "not in sync"}
    clusters = [{**late, "name": f"shop{number:02}"} for number in range(40)]
    command = [sys.executable, "-m", "pgstatus", "clusters", "--watch", "--url"]
    with reverse_proxy(several) as proxy:
        proxy.replaced["/overview"] = json.dumps({**overview, "clusters": clusters}).encode()
        with terminal([*command, proxy.url], {**several.environment, "TERM": "xterm"}) as screen:
            screen.wait_for("40 warnings")
            pattern = r"^(\d+) more clusters, \1 not in sync$"
            assert re.search(pattern, screen.text, re.MULTILINE)
            assert len([line for line in screen.lines if line]) > LINES - 6, "the height is used"


def test_a_cluster_is_followed_by_its_stream(several: Daemon, cluster: Cluster) -> None:
    command = [sys.executable, "-m", "pgstatus", "hosts", "--watch", "--cluster", "orders"]
    with terminal(command, {**several.environment, "TERM": "xterm"}) as screen:
        screen.wait_for(f"master {name(cluster)}")
        screen.wait_for("replicas in sync 2 of 2 live")
        wait_until("it has a stream", lambda: "\npg_status_watchers 1" in several.text("/metrics"))


def test_an_instance_that_lists_no_clusters(make_daemon: DaemonFactory, cluster: Cluster) -> None:
    daemon = make_daemon(cluster)
    with reverse_proxy(daemon, "/old", ("/clusters", "/c/")) as proxy:
        done = run(daemon, "clusters", "--url", proxy.url)
        assert done.returncode == 1
        assert f"at {proxy.url} has no list of clusters" in done.stderr
        done = run(daemon, "hosts", "--url", f"{proxy.url}/c/orders")
        assert done.returncode == 1
        assert f"the server at {proxy.url} is not pg-status" in done.stderr


def test_over_a_unix_socket(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    daemon = daemons.prepare(cluster, clusters="orders,users")
    daemon.environment["pg_status__http_listen_address"] = f"unix:{path}"
    with daemon.launched():
        wait_until("it is ready", lambda: run(daemon, "health", "/ready").returncode == 0)
        for options in (["--cluster", "orders"], ["--url", f"unix:{path}/c/orders"]):
            done = run(daemon, "hosts", *options)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith("orders  on ")


@pytest.mark.parametrize("options", [[], ["--config-only"]])
def test_check_without_a_cluster(tmp_path: Path, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgstatus", "check", *options],
        env={"pg_status__clusters_dir": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "WARNING: no cluster is defined\n")
    assert f"{tmp_path} contains no file NAME.env" in done.stderr
