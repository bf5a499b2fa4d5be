"""Prometheus scrapes real daemons during a failover, with the packaged rules and dashboard."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pgstatus.demo.cluster import Server
from pgstatus.demo.network import Network
from tests.conftest import Clusters, Daemons
from tests.support.daemon import Daemon
from tests.support.prometheus import PACKAGED, Prometheus
from tests.support.scrape import Scrape
from tests.support.several import definition, start_several
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus is not installed (Debian: prometheus)",
)

RULES = (PACKAGED / "alerts.yml").read_text()
RULES_TEST = (PACKAGED / "alerts_test.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
DASHBOARD = json.loads((PACKAGED / "pg-status.json").read_text())
# Variables of Grafana, and the selection of all clusters, instances and hosts.
VARIABLES = {
    "$__rate_interval": "1m", "$cluster": ".*", "$instance": ".*", "$host": ".*",
}  # fmt: skip


def promtool(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, check=False
    )


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", PACKAGED / "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_only_when_they_should() -> None:
    done = promtool("test", "rules", PACKAGED / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_to_fire_and_not_to_fire(alert: str, tmp_path: Path) -> None:
    """It is expected in a test, and the first test, normal operation, fails if it always fires."""
    assert re.search(rf'alertname="{alert}"|alertname: {alert}\n.*\n +exp_alerts:\n', RULES_TEST)
    always, count = re.subn(
        rf"(- alert: {alert}\n(?: +#.*\n)* +expr: )(.*\n(?: {{10,}}.*\n)*)",
        r"\g<1>vector(1)\n",
        RULES,
    )
    assert count == 1
    (tmp_path / "alerts.yml").write_text(always)
    tests = RULES_TEST.split("  - name: ")
    (tmp_path / "alerts_test.yml").write_text("  - name: ".join(tests[:2]))
    assert promtool("check", "rules", tmp_path / "alerts.yml").returncode == 0
    done = promtool("test", "rules", tmp_path / "alerts_test.yml")
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


@pytest.mark.parametrize("with_token", [False, True])
def test_promtool_accepts_the_example_configuration(with_token: bool, tmp_path: Path) -> None:
    """Unchanged, and with the lines for the token uncommented."""
    config = (PACKAGED / "prometheus.yml").read_text()
    if with_token:
        (tmp_path / "token").write_text("secret")
        config = re.sub(r"    # (authorization:|  type:|  credentials_file:)", r"    \1", config)
        config, count = re.subn(
            r"credentials_file: .*", f"credentials_file: {tmp_path}/token", config
        )
        assert count == 1
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "alerts.yml").write_text(RULES)
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Story:
    """A sequence of events, and a Prometheus that has scraped it."""

    prometheus: Prometheus
    daemons: tuple[Daemon, Daemon]
    lost: Server
    heir: Server
    refusing: str
    """A host that always refuses connections."""

    @property
    def instances(self) -> set[str]:
        return {f"{daemon.address}:{daemon.port}" for daemon in self.daemons}


def name(server: Server) -> str:
    return f"{server.address}:{server.port}"


@pytest.fixture(scope="module")
def story(
    session_clusters: Clusters,
    session_daemons: Daemons,
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    """Two daemons monitor a cluster. Its primary crashes; after a while, a replica is promoted; the
    old primary returns as a primary, and is stopped."""
    cluster = session_clusters.make(replicas=2)
    lost, refusing = cluster.primary, f"{network.address(251)}:1"
    hosts = ",".join([*(server.address for server in cluster.servers), refusing])
    daemons = tuple(session_daemons.start(cluster, hosts=hosts, on_change="true") for _ in range(2))
    for daemon in daemons:
        for path in ("/master", "/replica", "/nothing", "/replica?min_lsn=FFFFFFFF/0"):
            daemon.get(path)
    first, second = daemons
    with Prometheus(
        tmp_path_factory.mktemp("prometheus"),
        network.address(3),
        [[f"{d.address}:{d.port}" for d in daemons], [f"{network.address(251)}:1"], []],
    ) as prometheus:
        master = "max by (host) (pg_status_host_master) == 1"

        def is_master(server: Server) -> bool:
            return prometheus.query(master) == [({"host": name(server)}, 1.0)]

        wait_until("Prometheus has the master", lambda: is_master(lost))
        lost.crash()
        wait_until("no master", lambda: prometheus.firing("PgStatusNoMaster"), 30)
        cluster.promote(max(cluster.replicas, key=Server.lsn))
        for replica in cluster.replicas_without(lost):
            replica.follow(cluster.primary)
        wait_until("Prometheus has the new master", lambda: is_master(cluster.primary))
        wait_until("the alert is resolved", lambda: not prometheus.firing("PgStatusNoMaster"))
        lost.start()
        wait_until("two primaries", lambda: len(prometheus.firing("PgStatusTwoMasters")) == 2)
        lost.stop()
        wait_until("one primary", lambda: not prometheus.firing("PgStatusTwoMasters"))
        yield Story(prometheus, (first, second), lost, cluster.primary, refusing)


def test_every_target_is_up_except_the_refusing_one(story: Story) -> None:
    up = story.prometheus.query("up")
    assert {labels["instance"] for labels, value in up if value} == story.instances
    assert {(labels["job"], labels["cluster"]) for labels, _ in up} == {
        ("pg-status", "main"),
        ("pg-status", "billing"),
    }


def test_role_changes_were_counted(story: Story) -> None:
    changed = story.prometheus.query("pg_status_role_changes_total > 0")
    assert {(labels["host"], labels["instance"]) for labels, _ in changed} == {
        (name(story.heir), instance) for instance in story.instances
    }
    assert {value for _, value in changed} == {1.0}


def test_the_timeline_shows_the_promotion(story: Story) -> None:
    newest = story.prometheus.query("max(pg_status_host_timeline)")
    assert newest == [({}, 2.0)]


def test_the_expected_alerts_fire_once_for_each_subject(story: Story) -> None:
    """Independently of the number of instances."""
    fired = story.prometheus.query(
        "count by (alertname, cluster, instance, host)"
        ' (last_over_time(ALERTS{alertstate="firing"}[10m]))'
    )
    found = {
        (labels["alertname"], labels.get("host") or labels.get("instance")): number
        for labels, number in fired
    }
    expected = {
        ("PgStatusNoMaster", None),
        ("PgStatusTwoMasters", name(story.lost)),
        ("PgStatusTwoMasters", name(story.heir)),
        ("PgStatusHostDown", name(story.lost)),
        ("PgStatusHostDown", story.refusing),
        ("PgStatusDown", story.refusing),
    }
    assert expected <= set(found)
    assert {found[alert] for alert in expected} == {1.0}
    assert {alert for alert, _ in found} <= {alert for alert, _ in expected} | {
        # One instance may detect a change before the other, and these copies have no `for`.
        "PgStatusInstancesDisagree", "PgStatusHostUnreachable", "PgStatusHookPending",
        "PgStatusReplicaLate", "PgStatusNotScraped", "PgStatusChecksFail",
    }  # fmt: skip


def test_the_annotations_are_expanded(story: Story) -> None:
    [down] = [
        alert
        for alert in story.prometheus.firing("PgStatusHostDown")
        if alert["labels"]["host"] == story.refusing
    ]
    assert down["annotations"]["summary"] == f"{story.refusing} of main is dead"
    assert down["labels"]["severity"] == "warning"
    assert down["labels"]["cluster"] == "main"


def test_every_rule_is_evaluated_without_error(story: Story) -> None:
    groups = story.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == ALERTS
    assert {rule["health"] for rule in rules} == {"ok"}


def expressions(value: Any) -> Iterator[str]:
    """All PromQL expressions of the dashboard."""
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        for inner in value.values():
            yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)


EXPRESSIONS = sorted(set(expressions(DASHBOARD)))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_of_the_dashboard_has_a_result(story: Story, expression: str) -> None:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    shown = wait_until(expression, lambda: story.prometheus.query(expression))
    assert all(labels.get("host") != "" for labels, _ in shown)


@pytest.mark.parametrize("variable", DASHBOARD["templating"]["list"][1:], ids=lambda v: v["name"])
def test_the_variables_of_the_dashboard_have_values(story: Story, variable: Any) -> None:
    [(series, label)] = re.findall(r"^label_values\((.*), (\w+)\)$", variable["definition"])
    for other, value in VARIABLES.items():
        series = series.replace(other, value)
    values = story.prometheus.ask(f"label/{label}/values", **{"match[]": series})
    expected = {
        "cluster": {"main"},
        "instance": story.instances,
        "host": {labels["host"] for labels, _ in story.prometheus.query("pg_status_host_up")},
    }
    assert set(values) == expected[label]
    assert "" not in values


def test_every_metric_in_use_exists(story: Story, session_daemons: Daemons) -> None:
    watcher = story.daemons[0]
    relay = session_daemons.start(upstreams=f"http://{watcher.address}:{watcher.port}")
    existing = set()
    for daemon in (watcher, relay):
        answer = daemon.get("/metrics")
        scrape = Scrape(answer.headers["Content-Type"], answer.text)
        existing |= {sample.name for family in scrape.families for sample in family.samples}
    used = "\n".join(re.findall(r"expr: (.*\n(?: {10,}.*\n)*)", RULES) + EXPRESSIONS)
    names = set(re.findall(r"\b(?:pg_status|process)_\w+", used))
    assert len(names) > 20
    assert names - existing == set()


def test_promtool_accepts_the_metrics(story: Story) -> None:
    done = promtool("check", "metrics", text=story.daemons[0].text("/metrics"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture(scope="module")
def several(
    session_clusters: Clusters,
    session_daemons: Daemons,
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """One daemon monitors a cluster under two names; no host of a third one responds, and the file
    of a fourth one is invalid."""
    cluster = session_clusters.make()
    definitions = {
        "orders": definition(cluster) + "pg_status__on_change=true\n",
        "users": definition(cluster) + "pg_status__on_change=true\n",
        "billing": f"pg_status__hosts={network.address(251)}:1\n",
        "stock": "pg_status__hosts=\n",
    }
    directory = tmp_path_factory.mktemp("clusters")
    daemon = start_several(session_daemons, directory, definitions)
    for path in ("/master", "/replica?min_lsn=FFFFFFFF/0&wait_ms=0", "/is_master?host=x"):
        daemon.get(f"/c/orders{path}")
    with Prometheus(
        tmp_path_factory.mktemp("prometheus"),
        network.address(4),
        [[], [], [f"{daemon.address}:{daemon.port}"]],
    ) as prometheus:
        wait_until("the alert", lambda: prometheus.firing("PgStatusNoMaster"), 30)
        for path in ("/master", "/replica?min_lsn=FFFFFFFF/0&wait_ms=0", "/is_master?host=x"):
            daemon.get(f"/c/orders{path}")
        yield prometheus


def test_alerts_of_one_of_several_clusters(several: Prometheus) -> None:
    [alert] = several.firing("PgStatusNoMaster")
    assert alert["labels"]["cluster"] == "billing"
    assert alert["annotations"]["summary"].startswith("No master in billing")
    [alert] = wait_until("the alert", lambda: several.firing("PgStatusRejected"))
    assert alert["labels"]["cluster"] == "stock"
    assert several.query("exported_cluster") == []


@pytest.mark.parametrize(
    "expression",
    # There was no change of roles, and no failed check of a live host.
    [one for one in EXPRESSIONS if "role_changes" not in one and "failed_checks" not in one],
)
def test_the_dashboard_shows_one_of_several_clusters(several: Prometheus, expression: str) -> None:
    """Also the panels about the process, whose series have no label ``cluster``."""
    for variable, value in {**VARIABLES, "$cluster": "orders"}.items():
        expression = expression.replace(variable, value)
    shown = wait_until(expression, lambda: several.query(expression))
    assert {labels.get("cluster", "orders") for labels, _ in shown} == {"orders"}
