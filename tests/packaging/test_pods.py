"""The pods of the chart, executed: probes, volumes, and a rollout under load."""

import http.client
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network, free_port
from tests.packaging import chart
from tests.packaging.pods import HAPROXY, Manifest, Pod, Service, kinds, rendered
from tests.support.nats import PROGRAM, NatsCluster
from tests.support.running import Running
from tests.support.waiting import wait_until

TOKEN = "0123456789abcdef"
SECRETS = {"password": {"password": PASSWORD}, "token": {"token": f"{TOKEN}\n"}}
RELOAD = ["python3", "-m", "pgstatus", "reload", "--pid", "1"]
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
_needs_haproxy = pytest.mark.skipif(
    not Path(HAPROXY).exists(), reason="haproxy is not installed (Debian: haproxy)"
)


class Load(Running):
    """Clients of a Service that do not repeat failed requests.

    Every second client keeps its connection; the others use a new one for each request.
    """

    def __init__(self, url: str, path: str, *, clients: int = 8) -> None:
        self._url = httpx.URL(url)
        self._path = path
        self._stopping = threading.Event()
        ask = itertools.cycle((self._on_kept_connections, self._on_new_connections))
        self._threads = [threading.Thread(target=next(ask)) for _ in range(clients)]
        self.succeeded = 0
        self.failures: list[str] = []

    def launch(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _on_kept_connections(self) -> None:
        with httpx.Client(base_url=self._url, timeout=5, headers=AUTHORIZED) as client:
            self._repeat(lambda: client.get(self._path).status_code)

    def _on_new_connections(self) -> None:
        def ask() -> int:
            connection = http.client.HTTPConnection(self._url.host, self._url.port or 80, timeout=5)
            with closing(connection):
                connection.request("GET", self._path, headers=AUTHORIZED)
                return connection.getresponse().status

        self._repeat(ask)

    def _repeat(self, ask: Callable[[], int]) -> None:
        while not self._stopping.wait(0.01):
            try:
                status = ask()
            except (OSError, http.client.HTTPException, httpx.HTTPError) as error:
                self.failures.append(repr(error))
            else:
                if status == 200:
                    self.succeeded += 1
                else:
                    self.failures.append(str(status))


class Release:
    """The pods of a StatefulSet, each with an address of its own."""

    def __init__(
        self,
        directory: Path,
        network: Network,
        values: Manifest,
        *,
        first: int,
        secrets: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        documents = rendered(values)
        (stateful_set,) = kinds(documents, "StatefulSet")
        pod = stateful_set["spec"]["template"]["spec"]
        self.pods = [
            Pod(
                directory / f"pod{number}",
                network.address(first + number),
                pod,
                kinds(documents, "ConfigMap"),
                {**SECRETS, **secrets},
            )
            for number in range(stateful_set["spec"]["replicas"])
        ]

    @contextmanager
    def running(self) -> Iterator[list[Pod]]:
        with ExitStack() as undo:
            for pod in self.pods:
                undo.enter_context(pod)
            yield self.pods


def of_cluster(cluster: Cluster, **values: Any) -> Manifest:
    return {
        "hosts": [server.address for server in cluster.servers],
        "postgres": {
            "user": "postgres",
            "port": cluster.primary.port,
            "passwordSecret": {"name": "password"},
        },
        "http": {"tokenSecret": {"name": "token"}},
        **values,
    }


@pytest.fixture(scope="module")
def watchers(
    cluster: Cluster, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Pod]]:
    """Three shared instances with the shortest preStop action."""
    values = of_cluster(cluster, clusterName="orders", preStopSeconds=2)
    with Release(tmp_path_factory.mktemp("pods"), network, values, first=200).running() as pods:
        yield pods


@pytest.fixture
def service(network: Network, tmp_path: Path, watchers: list[Pod]) -> Iterator[Service]:
    address = network.address(210)
    with Service(tmp_path, address, free_port([address], 8000), watchers) as service:
        yield service


def test_an_instance_reports_the_master(cluster: Cluster, watchers: list[Pod]) -> None:
    for pod in watchers:
        assert all(map(pod.succeeds, ("startupProbe", "readinessProbe", "livenessProbe")))
        assert pod.get("/master").status_code == 401
        assert pod.get("/master", **AUTHORIZED).text == cluster.primary.address
        # The ServiceMonitor adds the label "cluster".
        assert "\npg_status_ready 1" in pod.get("/metrics", **AUTHORIZED).text


def sidecar_of(directory: Path, network: Network, values: Manifest) -> Pod:
    """In the pod of the example of an application, with these values."""
    texts = chart.render(
        chart.APPLICATION, {"pg-status": values}, name="application", namespace="default"
    )
    deployment = yaml.safe_load(texts["application/templates/deployment.yaml"])
    pod = deployment["spec"]["template"]["spec"]
    return Pod(directory / "sidecar", network.address(211), pod, secrets=SECRETS)


@pytest.fixture
def sidecar(network: Network, tmp_path: Path, watchers: list[Pod]) -> Iterator[Pod]:
    """A relay of the watchers."""
    upstreams = {"urls": [pod.url for pod in watchers], "tokenSecret": {"name": "token"}}
    with sidecar_of(tmp_path, network, {"upstreams": upstreams}) as sidecar:
        yield sidecar


def test_a_sidecar_reports_the_master_without_connections_to_the_hosts(
    cluster: Cluster, sidecar: Pod
) -> None:
    assert all(map(sidecar.succeeds, ("startupProbe", "livenessProbe")))
    assert sidecar.get("/master").text == cluster.primary.address
    assert "libpq" not in Path(f"/proc/{sidecar.process.pid}/maps").read_text()


@pytest.mark.skipif(PROGRAM is None, reason="nats-server is not installed (Debian: nats-server)")
def test_a_sidecar_follows_the_bucket_of_an_instance(
    cluster: Cluster, network: Network, tmp_path: Path
) -> None:
    with NatsCluster(tmp_path, network, servers=1) as servers:
        nats = {"clusterName": "orders", "nats": {"servers": [servers.urls], "replicas": 1}}
        instance = Release(tmp_path, network, of_cluster(cluster, **nats, replicas=1), first=230)
        values = {**nats, "upstreams": {"urls": [], "tokenSecret": {"name": ""}}}
        with instance.running(), sidecar_of(tmp_path, network, values) as sidecar:
            assert sidecar.get("/master").text == cluster.primary.address


@_needs_haproxy
def test_a_rollout_refuses_no_request(service: Service, watchers: list[Pod], sidecar: Pod) -> None:
    """Neither at the Service nor at a sidecar that follows the instances."""
    with Load(service.url, "/master") as load, Load(sidecar.url, "/master", clients=2) as local:
        # A StatefulSet replaces the last pod first, and waits until it is ready.
        for pod in reversed(watchers):
            pod.terminate(service)
            assert pod.process.returncode == 0
            pod.launch()
            wait_until("the new pod is ready", pod.is_ready)
            service.add(pod)
        done = load.succeeded
        wait_until("requests after the rollout", lambda: load.succeeded > done + 100)
    assert load.failures == []
    assert local.failures == []


@_needs_haproxy
def test_without_the_pre_stop_action_requests_are_refused(
    service: Service, watchers: list[Pod]
) -> None:
    """The test above can fail."""
    with Load(service.url, "/master") as load:
        wait_until("requests", lambda: load.succeeded > 100)
        assert load.failures == []
        watchers[0].terminate(service, pre_stop=False)
        wait_until("a refused request", lambda: load.failures)
    watchers[0].launch()
    wait_until("the next pod is ready", watchers[0].is_ready)


def test_one_daemon_monitors_the_clusters_of_a_config_map_and_of_a_secret(
    cluster: Cluster, network: Network, tmp_path: Path
) -> None:
    """A missing password affects only its cluster."""
    hosts = [server.address for server in cluster.servers]
    orders = {"hosts": hosts, "postgres": {"passwordSecret": {"name": "password"}}}
    users = {"hosts": hosts[:1], "postgres": {"passwordSecret": {"name": "missing"}}}
    values = {
        **of_cluster(cluster),
        "hosts": [],
        "replicas": 1,
        "clusters": {"orders": orders, "users": users},
        "existingClusters": {"secret": "clusters"},
    }
    shop = {"shop.env": f"pg_status__hosts={hosts[0]}\n"}

    def masters(pod: Pod) -> dict[str, str | None]:
        return {one["name"]: one["master"] for one in pod.get("/clusters", **AUTHORIZED).json()}

    release = Release(tmp_path, network, values, first=220, secrets={"clusters": shop})
    with release.running() as (pod,):
        master = f"{cluster.primary.address}:{cluster.primary.port}"
        assert masters(pod) == {"orders": master, "shop": master, "users": None}
        # The ServiceMonitor keeps this label.
        assert 'pg_status_ready{cluster="shop"} 1' in pod.get("/metrics", **AUTHORIZED).text
        # The commands of docs/kubernetes.md.
        pod.volumes.replace_secret("clusters", {"new.env": shop["shop.env"]})
        assert pod.execute(RELOAD).returncode == 0
        assert masters(pod) == {"new": master, "orders": master, "users": None}
