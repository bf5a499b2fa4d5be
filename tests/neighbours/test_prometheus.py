"""Prometheus scrapes real daemons through a failover, with the rules and the dashboard we ship."""

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
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus is not installed (Debian: prometheus)",
)

RULES = (PACKAGED / "alerts.yml").read_text()
RULES_TEST = (PACKAGED / "alerts_test.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
DASHBOARD = json.loads((PACKAGED / "pg-status.json").read_text())
# Grafana's own, and what its user chooses: everything.
VARIABLES = {
    "$__rate_interval": "1m", "$cluster": ".*", "$instance": ".*", "$host": ".*",
}  # fmt: skip


def promtool(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, check=False
    )


def test_the_rules_are_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", PACKAGED / "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", PACKAGED / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_of_each_alert_it_is_shown_that_it_fires_and_that_it_can_be_silent(
    alert: str, tmp_path: Path
) -> None:
    """It is expected somewhere; and the first story, where all is well, does not let it pass if it
    fires always."""
    assert re.search(rf'alertname="{alert}"|alertname: {alert}\n.*\n +exp_alerts:\n', RULES_TEST)
    always, count = re.subn(
        rf"(- alert: {alert}\n(?: +#.*\n)* +expr: )(.*\n(?: {{10,}}.*\n)*)",
        r"\g<1>vector(1)\n",
        RULES,
    )
    assert count == 1
    (tmp_path / "alerts.yml").write_text(always)
    stories = RULES_TEST.split("  - name: ")
    (tmp_path / "alerts_test.yml").write_text("  - name: ".join(stories[:2]))
    assert promtool("check", "rules", tmp_path / "alerts.yml").returncode == 0
    done = promtool("test", "rules", tmp_path / "alerts_test.yml")
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


@pytest.mark.parametrize("with_token", [False, True])
def test_the_example_is_a_configuration(with_token: bool, tmp_path: Path) -> None:
    """As it stands, and with the token's lines no longer commented out."""
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
    """What happened, and a Prometheus that has seen it."""

    prometheus: Prometheus
    daemons: tuple[Daemon, Daemon]
    lost: Server
    heir: Server
    nobody: str
    """A host that refuses connections all along."""

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
    """Two daemons watch a cluster. Its primary crashes and stays away for a while; a replica is
    promoted; the old primary comes back as if nothing had happened, and is stopped."""
    cluster = session_clusters.make(replicas=2)
    lost, nobody = cluster.primary, f"{network.address(251)}:1"
    hosts = ",".join([*(server.address for server in cluster.servers), nobody])
    daemons = tuple(session_daemons.start(cluster, hosts=hosts, on_change="true") for _ in range(2))
    for daemon in daemons:
        for path in ("/master", "/replica", "/nothing", "/replica?min_lsn=FFFFFFFF/0"):
            daemon.get(path)
    first, second = daemons
    with Prometheus(
        tmp_path_factory.mktemp("prometheus"),
        network.address(3),
        [[f"{d.address}:{d.port}" for d in daemons], [f"{network.address(251)}:1"]],
    ) as prometheus:
        master = "max by (host) (pg_status_host_master) == 1"

        def is_master(server: Server) -> bool:
            return prometheus.query(master) == [({"host": name(server)}, 1.0)]

        wait_until("Prometheus knows the master", lambda: is_master(lost))
        lost.crash()
        wait_until("nobody is master", lambda: prometheus.firing("PgStatusNoMaster"), 30)
        cluster.promote(max(cluster.replicas, key=Server.lsn))
        for replica in cluster.replicas_without(lost):
            replica.follow(cluster.primary)
        wait_until("Prometheus knows the heir", lambda: is_master(cluster.primary))
        wait_until("that is over", lambda: not prometheus.firing("PgStatusNoMaster"))
        lost.start()
        wait_until("two masters", lambda: len(prometheus.firing("PgStatusTwoMasters")) == 2)
        lost.stop()
        wait_until("one master", lambda: not prometheus.firing("PgStatusTwoMasters"))
        yield Story(prometheus, (first, second), lost, cluster.primary, nobody)


def test_every_target_is_up_but_the_one_that_is_not(story: Story) -> None:
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


def test_the_timeline_tells_of_the_promotion(story: Story) -> None:
    newest = story.prometheus.query("max(pg_status_host_timeline)")
    assert newest == [({}, 2.0)]


def test_who_was_told_what(story: Story) -> None:
    """Each alert names those whom it is about, once, however many pg-status there are."""
    fired = story.prometheus.query(
        "count by (alertname, cluster, instance, host)"
        ' (last_over_time(ALERTS{alertstate="firing"}[10m]))'
    )
    told = {
        (labels["alertname"], labels.get("host") or labels.get("instance")): number
        for labels, number in fired
    }
    expected = {
        ("PgStatusNoMaster", None),
        ("PgStatusTwoMasters", name(story.lost)),
        ("PgStatusTwoMasters", name(story.heir)),
        ("PgStatusHostDown", name(story.lost)),
        ("PgStatusHostDown", story.nobody),
        ("PgStatusDown", story.nobody),
    }
    assert expected <= set(told)
    assert {told[alert] for alert in expected} == {1.0}
    assert {alert for alert, _ in told} <= {alert for alert, _ in expected} | {
        # Either may see it a moment before the other, and these copies have no patience.
        "PgStatusInstancesDisagree", "PgStatusHostUnreachable", "PgStatusHookPending",
        "PgStatusReplicaLate", "PgStatusNotScraped",
    }  # fmt: skip


def test_what_is_told_is_written_out(story: Story) -> None:
    [down] = [
        alert
        for alert in story.prometheus.firing("PgStatusHostDown")
        if alert["labels"]["host"] == story.nobody
    ]
    assert down["annotations"]["summary"] == f"{story.nobody} is dead"
    assert down["labels"]["severity"] == "warning"
    assert down["labels"]["cluster"] == "main"


def test_every_rule_is_evaluated_without_error(story: Story) -> None:
    groups = story.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == ALERTS
    assert {rule["health"] for rule in rules} == {"ok"}


def expressions(value: Any) -> Iterator[str]:
    """Every PromQL expression of the dashboard, wherever it stands."""
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
def test_the_dashboard_has_something_to_show(story: Story, expression: str) -> None:
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


def test_every_metric_that_is_used_is_there(story: Story) -> None:
    answer = story.daemons[0].get("/metrics")
    scrape = Scrape(answer.headers["Content-Type"], answer.text)
    there = {sample.name for family in scrape.families for sample in family.samples}
    used = "\n".join(re.findall(r"expr: (.*\n(?: {10,}.*\n)*)", RULES) + EXPRESSIONS)
    names = set(re.findall(r"\b(?:pg_status|process)_\w+", used))
    assert len(names) > 20
    assert names - there == set()


def test_promtool_has_nothing_against_the_metrics(story: Story) -> None:
    done = promtool("check", "metrics", text=story.daemons[0].text("/metrics"))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
