"""The Helm chart and the manifests: rendered with Helm's library, and validated against the
published schemas of Kubernetes and of the Prometheus operator. test_pods.py executes the pods.
"""

import json
import re
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

from pgstatus import __version__
from pgstatus.settings.variables import VARIABLES
from tests.packaging import chart
from tests.packaging.pods import Manifest, kinds, rendered

# The oldest supported version, and the newest known.
KUBERNETES = ("1.30", "1.37")
SECRET = {"name": "secret"}
EVERYTHING: Manifest = {
    "image": {"repository": "registry.example.com:5000/pg-status", "pullSecrets": ["pull"]},
    "hosts": ["pg1", "pg2:5433", "[::1]:5434"],
    "clusterName": "orders",
    "nats": {
        "servers": ["nats://n1:4222", "tls://n2"],
        "credentialsSecret": SECRET,
        "caSecret": SECRET,
        "certificateSecret": "secret",
    },
    "postgres": {"passwordSecret": SECRET, "sslMode": "verify-full", "caSecret": SECRET},
    "http": {"tokenSecret": SECRET, "tlsSecret": "tls", "clientCaSecret": SECRET},
    "variables": {"sync_max_lag_bytes": 10_000_000, "connect_timeout": 0.5},
    "env": [{"name": "PGAPPNAME", "value": "x"}],
    "affinity": {"nodeAffinity": {}},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "database", "operator": "Exists"}],
    "priorityClassName": "high",
    "serviceAccountName": "account",
    "podLabels": {"team": "a"},
    "podAnnotations": {"note": "a"},
    "networkPolicy": {
        "enabled": True,
        "from": [{"podSelector": {}}],
        "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "ports": [6432],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "certificateSecret": "client"},
}
RELAY: Manifest = {
    "upstreams": {
        "urls": ["http://w1:8000", "https://w2", "http://w3:8001/c/orders"],
        "tokenSecret": SECRET,
        "caSecret": SECRET,
        "certificateSecret": "secret",
    },
    "hosts": ["pg1"],
    "fallbackDirect": True,
    "networkPolicy": {"enabled": True},
}
# The volumes of the chart contain what they name; other separators and sockets are not needed.
_WITHOUT_VALUE = {
    "delimiter", "env_file", "http_listen_address", "http_socket_mode", "pg_password", "clusters",
    "nats_name",
}  # fmt: skip
VALUES: dict[str, Manifest] = {
    "watchers": yaml.safe_load((chart.HERE / "examples/watchers.yaml").read_text()),
    "clusters": yaml.safe_load((chart.HERE / "examples/clusters.yaml").read_text()),
    "relay": RELAY,
    "follows-nats": {"clusterName": "orders", "nats": {"servers": ["nats://n1:4222"]}},
    "everything": EVERYTHING,
    "existing-clusters": {"existingClusters": {"configMap": "a"}, "fallbackDirect": True},
    "one": {"hosts": ["pg1"], "replicas": 1},
}


def validate(document: Manifest, version: str) -> None:
    if document["kind"] == "ServiceMonitor":
        ServiceMonitor.model_validate(document, extra="forbid")
    else:
        kubernetes_validate.validate(document, version, strict=True)


def container(documents: list[Manifest]) -> Manifest:
    (stateful_set,) = kinds(documents, "StatefulSet")
    (found,) = stateful_set["spec"]["template"]["spec"]["containers"]
    return dict(found)


def variables(documents: list[Manifest]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(documents)["env"]}


def ports(documents: list[Manifest]) -> set[int]:
    """Those to which the policy allows connections, other than DNS."""
    (policy,) = kinds(documents, "NetworkPolicy")
    _, others = policy["spec"]["egress"]
    return {port["port"] for port in others["ports"]}


@pytest.mark.parametrize("name", VALUES)
def test_the_objects_are_valid_in_every_version(name: str) -> None:
    documents = rendered(VALUES[name])
    assert kinds(documents, "StatefulSet")
    for version in KUBERNETES:
        for document in documents:
            validate(document, version)


def test_the_validation_finds_unknown_fields() -> None:
    for document in rendered(VALUES["watchers"]):
        document["spec"]["unknown"] = 1
        with pytest.raises((kubernetes_validate.ValidationError, ValueError)):
            validate(document, KUBERNETES[-1])


def test_helm_lint_reports_nothing() -> None:
    report = helm.lint(chart.CHART, VALUES["everything"], strict=True)
    messages = [one for one in report["messages"] if one["error"] != "icon is recommended"]
    assert (messages, report["errors"]) == ([], [])


def test_generated_files_are_up_to_date() -> None:
    """`make manifests` writes them."""
    for path, text in chart.generated().items():
        assert path.read_text() == text, path


@pytest.mark.parametrize("path", sorted(chart.MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_manifests_are_valid(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for version in KUBERNETES:
        for document in documents:
            validate(document, version)


def test_the_archive_has_the_version_and_the_image_of_a_release(tmp_path: Path) -> None:
    archive = chart.package(tmp_path, "ghcr.io/example/pg-status")
    again = chart.package(tmp_path / "again", "ghcr.io/example/pg-status")
    assert again.read_bytes() == archive.read_bytes()
    assert archive.name == f"pg-status-{__version__}.tgz"
    with helm.Chart.load(archive) as loaded:
        assert loaded.metadata["appVersion"] == loaded.version == __version__
        text = loaded.render({"hosts": ["pg1"]}, name="a")["pg-status/templates/statefulset.yaml"]
    assert f"image: ghcr.io/example/pg-status:{__version__}-alpine\n" in text


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"hostz": ["pg1"]}, "'hostz' not allowed"),
        ({"hosts": "pg1"}, "got string, want array"),
        ({"hosts": ["pg1,pg2"]}, "does not match pattern"),
        ({"hosts": ["postgresql://a:secret@pg1"]}, "/hosts/0"),
        ({"hosts": ["postgresql://pg1?password=secret"]}, "/hosts/0"),
        ({"hosts": ["pg1"], "variables": {"sync_max_lag": 1}}, "/variables"),
        ({"hosts": ["pg1"], "variables": {"pg_password": "secret"}}, "/variables"),
        ({"hosts": ["pg1"], "env": [{"name": "PGPASSWORD", "value": "secret"}]}, "/env/0"),
        ({"hosts": ["pg1"], "image": {"tag": "latest"}}, "/image/tag"),
        ({"hosts": ["pg1"], "postgres": {"password": "secret"}}, "'password' not allowed"),
        ({"clusters": {"a__b": {"hosts": ["pg1"]}}}, "a__b"),
        ({"clusters": {"a": {"hosts": ["pg1"], "variables": {"http_port": 1}}}}, "http_port"),
        ({}, "one of hosts, clusters, existingClusters, upstreams.urls and nats.servers"),
        ({"clusters": {"a": {}}}, "clusters.a: hosts or upstreams is required"),
        (
            {"clusters": {"a": {"upstreams": ["http://w"]}}, "nats": {"servers": ["nats://n"]}},
            "clusters.a: upstreams and nats.servers",
        ),
        ({"hosts": ["pg1"], "clusters": {"a": {"hosts": ["pg1"]}}}, "hosts cannot be combined"),
        ({"hosts": ["pg1"], "upstreams": {"urls": ["http://w"]}}, "set fallbackDirect=true"),
        ({"upstreams": {"urls": ["http://w"]}, "fallbackDirect": True}, "requires hosts"),
        ({"hosts": ["pg1"], "fallbackDirect": True}, "requires upstreams.urls or nats.servers"),
        (
            {"upstreams": {"urls": ["http://w"]}, "nats": {"servers": ["nats://n"]}},
            "one kind of source",
        ),
        ({"nats": {"servers": ["nats://n"]}}, "nats.servers requires clusterName"),
        ({"upstreams": {"urls": ["w1:8000"]}}, "/upstreams/urls/0"),
        ({"nats": {"servers": ["n1:4222"]}}, "/nats/servers/0"),
        ({"hosts": ["pg1"], "http": {"clientCaSecret": SECRET}}, "requires http.tlsSecret"),
        ({"hosts": ["pg1"], "postgres": {"sslMode": "verify-full"}}, "requires postgres.caSecret"),
        ({"clusterName": "a", "existingClusters": {"secret": "x"}}, "clusterName is the name"),
    ],
)  # fmt: skip
def test_invalid_values_are_rejected_with_the_reason(values: Manifest, problem: str) -> None:
    with pytest.raises(helm.HelmError) as error:
        rendered(values)
    assert problem in str(error.value)


def test_all_invalid_combinations_are_reported_together() -> None:
    with pytest.raises(helm.HelmError) as error:
        rendered(
            {
                "hosts": ["pg1"],
                "upstreams": {"urls": ["http://w"]},
                "http": {"clientCaSecret": SECRET},
            }
        )
    assert "fallbackDirect" in str(error.value)
    assert "tlsSecret" in str(error.value)


def test_every_variable_is_set_by_a_value_or_accepted_in_variables() -> None:
    accepted = json.loads(chart.schema())["definitions"]["variables"]["properties"]
    with helm.Chart.load(chart.CHART) as loaded:
        values = str(loaded.templates)
    for variable in VARIABLES:
        name = variable.name
        assert name in accepted or name in _WITHOUT_VALUE or f'"{name}"' in values, name


def test_every_variable_of_the_pods_exists() -> None:
    """A misspelt variable would only cause a warning of pg-status."""
    known = {variable.full_name for variable in VARIABLES}
    for name, values in VALUES.items():
        found = {one for one in variables(rendered(values)) if one.startswith("pg_status__")}
        assert found <= known, name


def test_large_numbers_are_not_written_with_an_exponent() -> None:
    assert variables(rendered(EVERYTHING))["pg_status__sync_max_lag_bytes"] == "10000000"
    assert variables(rendered(EVERYTHING))["pg_status__connect_timeout"] == "0.5"
    documents = rendered(
        {"clusters": {"a": {"hosts": ["pg1"], "variables": {"sync_max_lag_bytes": 10_000_000}}}}
    )
    (config_map,) = kinds(documents, "ConfigMap")
    assert 'pg_status__sync_max_lag_bytes="10000000"' in config_map["data"]["a.env"]


def test_only_relays_among_the_clusters_check_the_hosts_themselves() -> None:
    clusters = {
        "direct": {"hosts": ["pg1"]},
        "relay": {"upstreams": ["http://w1"]},
        "both": {"upstreams": ["http://w1"], "hosts": ["pg1"]},
    }
    documents = rendered({"clusters": clusters, "fallbackDirect": True})
    (config_map,) = kinds(documents, "ConfigMap")
    found = {name for name, text in config_map["data"].items() if "fallback_direct" in text}
    assert found == {"both.env"}
    assert "pg_status__fallback_direct" not in variables(documents)


def test_every_secret_file_that_a_variable_names_is_mounted() -> None:
    for name in ("everything", "relay"):
        documents = rendered(VALUES[name])
        (stateful_set,) = kinds(documents, "StatefulSet")
        volumes = stateful_set["spec"]["template"]["spec"]["volumes"]
        (secrets,) = [volume for volume in volumes if volume["name"] == "pg-status-secrets"]
        mounted = {
            f"/run/secrets/pg-status/{item['path']}"
            for source in secrets["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        named = {
            value for value in variables(documents).values() if value.startswith("/run/secrets/")
        }
        assert named == mounted


def test_no_secret_and_no_unversioned_image_is_rendered() -> None:
    for name, values in VALUES.items():
        documents = rendered(values)
        assert not kinds(documents, "Secret")
        image = container(documents)["image"]
        assert image.rpartition(":")[2] == f"{__version__}-alpine", name


def test_the_policy_allows_the_ports_of_hosts_upstreams_and_nats() -> None:
    assert ports(rendered(EVERYTHING)) == {5432, 5433, 5434, 4222, 6432}
    assert ports(rendered(RELAY)) == {8000, 443, 8001, 5432}
    clusters = {
        "a": {"hosts": ["pg1:6000"]},
        "b": {"hosts": ["pg1"], "postgres": {"port": 6001}},
        "c": {"upstreams": ["http://w:8002/c/c"]},
    }
    values = {"clusters": clusters, "networkPolicy": {"enabled": True}}
    assert ports(rendered(values)) == {5432, 6000, 6001, 8002}


def test_a_change_of_the_clusters_replaces_the_pods() -> None:
    def annotations(host: str) -> Any:
        documents = rendered({"clusters": {"a": {"hosts": [host]}}})
        (stateful_set,) = kinds(documents, "StatefulSet")
        return stateful_set["spec"]["template"]["metadata"]["annotations"]

    assert annotations("pg1") == annotations("pg1")
    assert annotations("pg1") != annotations("pg2")


def test_the_budget_keeps_a_majority_and_a_single_instance_has_none() -> None:
    (budget,) = kinds(rendered(VALUES["watchers"]), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert not kinds(rendered(VALUES["one"]), "PodDisruptionBudget")


def test_the_pods_conform_to_the_restricted_pod_security_standard() -> None:
    sidecars = yaml.safe_load((chart.MANIFESTS / "sidecar.yaml").read_text())
    (stateful_set,) = kinds(rendered(EVERYTHING), "StatefulSet")
    for workload in (sidecars, stateful_set):
        pod = workload["spec"]["template"]["spec"]
        assert not pod.get("hostNetwork")
        for one in (*pod.get("initContainers", ()), *pod["containers"]):
            context = {**pod["securityContext"], **one["securityContext"]}
            assert context["runAsNonRoot"]
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True


def test_the_pod_of_helm_test_belongs_to_no_service() -> None:
    with_tests = rendered(VALUES["watchers"], tests=True)
    (pod,) = kinds(with_tests, "Pod")
    validate(pod, KUBERNETES[0])
    labels = pod["metadata"]["labels"].items()
    services = kinds(with_tests, "Service")
    assert len(services) == 2
    for service in services:
        assert not service["spec"]["selector"].items() <= labels


def test_notes_name_the_url_of_each_instance() -> None:
    notes = chart.render(chart.CHART, VALUES["watchers"], name="a", namespace="b")
    for number in range(3):
        url = f"http://a-pg-status-{number}.a-pg-status-pods.b.svc:8000\n"
        assert url in notes["pg-status/templates/NOTES.txt"]


def test_the_values_in_the_documentation_are_accepted() -> None:
    page = (chart.HERE.parents[1] / "docs/kubernetes.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 4
    for block in blocks:
        values = yaml.safe_load(block)
        documents = rendered({**values, "enabled": True})
        assert kinds(documents, "StatefulSet")


def test_the_policy_of_the_watchers_admits_the_sidecars() -> None:
    """Of the manifests, which are the examples of the chart."""
    watchers, sidecar = (
        [*yaml.safe_load_all((chart.MANIFESTS / f"{name}.yaml").read_text())]
        for name in ("watchers", "sidecar")
    )
    (policy,) = kinds(watchers, "NetworkPolicy")
    (deployment,) = kinds(sidecar, "Deployment")
    admitted = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert admitted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
