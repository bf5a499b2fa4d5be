"""Processes and threads of gunicorn: one row per 200, nothing leaks, no stale read."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from tests.sqlalchemy.sync.gunicorn import Gunicorn
from tests.sqlalchemy.test_read_your_writes import Held
from tests.support.daemon import Daemon


@pytest.fixture(scope="module", params=["psycopg", "psycopg2"])
def server(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    daemon: Daemon,
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gunicorn]:
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    environment = {"SERVED": f"{request.param} {daemon.url}"}
    app = "tests.sqlalchemy.sync.served:leaked"
    address = network.address(1)
    with Gunicorn(app, environment, log, address=address, workers=2, threads=4) as server:
        yield server


def rows(cluster: Cluster) -> list[str]:
    return [body for (body,) in cluster.primary.sql("SELECT body FROM note ORDER BY body")]


def in_parallel(count: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(work, range(count)))


def test_one_row_per_200(server: Gunicorn, cluster: Cluster) -> None:
    cluster.primary.sql("DELETE FROM note")

    def write(number: int) -> httpx.Response:
        params = {"body": f"{number:03}", "status": 200 if number % 3 else 409}
        return httpx.post(f"{server.url}/write", params=params, timeout=20)

    responses = in_parallel(60, write)
    assert [each.status_code for each in responses] == [200 if n % 3 else 409 for n in range(60)]
    assert rows(cluster) == [f"{number:03}" for number in range(60) if number % 3]
    assert len({each.json()["pid"] for each in responses}) == 2
    assert "Traceback" not in server.log()


def pairs(server: Gunicorn, user: int, count: int) -> Counter[str]:
    """Write, then read as the same client; where it was read."""
    hosts: Counter[str] = Counter()
    with httpx.Client(base_url=server.url, timeout=20) as client:
        for number in range(count):
            written = client.post("/write", params={"body": f"{user} {number}"}).json()
            read = client.get(f"/read/{written['id']}").json()
            assert read["body"] == f"{user} {number}", "a stale read"
            hosts[read["host"]] += 1
    return hosts


def test_no_stale_read(server: Gunicorn, cluster: Cluster) -> None:
    counts = in_parallel(8, lambda user: pairs(server, user, 25))
    hosts: Counter[str] = sum(counts, Counter())
    assert hosts.total() == 200
    assert {replica.address for replica in cluster.replicas} <= hosts.keys()


def test_no_stale_read_while_a_replica_is_behind(server: Gunicorn, cluster: Cluster) -> None:
    late, other = cluster.replicas
    with Held(cluster, (late,)):
        counts = in_parallel(4, lambda user: pairs(server, user, 10))
    hosts: Counter[str] = sum(counts, Counter())
    assert hosts[late.address] == 0
    assert hosts[other.address] > 0


def test_a_streamed_response_is_complete_only_if_it_is_committed(
    server: Gunicorn, cluster: Cluster
) -> None:
    cluster.primary.sql("DELETE FROM note")
    answer = httpx.post(f"{server.url}/stream", params={"body": "streamed"})
    assert answer.text == "first last"
    assert rows(cluster) == ["streamed"]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{server.url}/stream", params={"body": "broken off", "fails": "1"})
    assert rows(cluster) == ["streamed"]
