"""Every answered request is counted once, regardless of how it was answered."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory
from tests.support.daemon import Daemon
from tests.support.scrape import counted
from tests.support.serving import Client
from tests.support.waiting import wait_until

# No replica reaches this position during the test.
FAR = "FFFFFFFF/0"


@contextmanager
def counting(daemon: Daemon) -> Iterator[Counter[tuple[str, str]]]:
    """Within the block, exactly the expected requests are counted."""
    expected: Counter[tuple[str, str]] = Counter()
    before = counted(daemon)
    yield expected
    # A scrape is counted after it has been answered.
    expected["/metrics", "200"] += 1
    assert counted(daemon) - before == expected


@pytest.fixture
def quiet(make_daemon: DaemonFactory, cluster: Cluster) -> Daemon:
    """A daemon whose snapshot does not change, so that repeated requests come from the cache."""
    daemon = make_daemon(cluster, sleep_ms=60_000)
    wait_until("replicas", lambda: len(daemon.json("/replicas_info")) == 2)
    return daemon


@pytest.fixture
def client(quiet: Daemon) -> Iterator[Client]:
    with Client((quiet.address, quiet.port)) as client:
        yield client


def request(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_responses_from_the_cache_and_others(quiet: Daemon, client: Client) -> None:
    replica = quiet.json("/replicas_info")[0]["host"]
    asked = [
        ("/master", "/master", 200),
        ("/replica", "/replica", 200),
        ("/sync_by_bytes?lag_bytes=18446744073709551615", "/sync_by_bytes", 200),
        ("/explain/replica", "/explain/replica", 200),
        ("/hosts", "/hosts", 200),
        (f"/status?host={replica}", "/status", 200),
        ("/status?host=unknown", "/status", 404),
        ("/status", "/status", 400),
        ("/replica?lag_ms=-1", "/replica", 400),
        (f"/is_alive?host={replica}", "/is_alive", 200),
        (f"/is_master?host={replica}", "/is_master", 503),
        ("/overview", "/overview", 200),
        ("/live", "/live", 200),
        ("/", "/", 200),
    ]
    with counting(quiet) as expected:
        for times in (1, 50):
            for path, endpoint, status in asked:
                for _ in range(times):
                    answer = client.get(path)
                    assert answer.startswith(b"HTTP/1.1 %d " % status)
                    expected[endpoint, str(status)] += 1
    assert quiet.json("/replicas_info")[0]["host"] == replica


def test_unknown_paths_create_no_series(quiet: Daemon, client: Client) -> None:
    """A thousand unknown paths increase one counter and use no memory."""
    with counting(quiet) as expected:
        for number in range(1000):
            assert client.get(f"/no/{number}").startswith(b"HTTP/1.1 404 ")
        expected["other", "404"] = 1000


def test_other_methods(quiet: Daemon, client: Client) -> None:
    asked = [
        ("HEAD", "/master", "/master", 200),
        ("HEAD", "/no", "other", 404),
        ("OPTIONS", "/master", "/master", 204),
        ("POST", "/master", "/master", 405),
        ("DELETE", "/replica?lag_ms=x", "/replica", 405),
        ("POST", "/no", "other", 404),
    ]
    with counting(quiet) as expected:
        for method, path, endpoint, status in asked:
            for _ in range(7):
                client.send(request(path, method))
                answer = client.answer(head=method == "HEAD")
                assert answer.startswith(b"HTTP/1.1 %d " % status)
            expected[endpoint, str(status)] += 7


def test_pipelined_requests(quiet: Daemon, client: Client) -> None:
    paths = ["/master", "/replica", "/no", "/hosts", "/replica?lag_ms=x", "/live"] * 100
    with counting(quiet) as expected:
        client.send(b"".join(map(request, paths)))
        for _ in paths:
            client.answer()
        for endpoint, status in (
            ("/master", "200"), ("/replica", "200"), ("other", "404"), ("/hosts", "200"),
            ("/replica", "400"), ("/live", "200"),
        ):  # fmt: skip
            expected[endpoint, status] = 100


def test_100_continue_is_not_counted(quiet: Daemon, client: Client) -> None:
    with counting(quiet) as expected:
        client.send(
            b"GET /live HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
        )
        assert client.answer().startswith(b"HTTP/1.1 100 Continue")
        assert client.answer().startswith(b"HTTP/1.1 200 OK")
        expected["/live", "200"] += 1


def test_invalid_requests_are_counted_and_incomplete_ones_are_not(quiet: Daemon) -> None:
    with counting(quiet) as expected:
        for sent, status in (
            (b"nonsense\r\n\r\n", "400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400"),
            (b"GET /master HTTP/1.1\r\n" + b"A: b\r\n" * 8000, "431"),
        ):
            with Client((quiet.address, quiet.port)) as client:
                client.send(sent)
                assert client.rest().startswith(b"HTTP/1.1 %s " % status.encode())
            expected["other", status] += 1
        with Client((quiet.address, quiet.port)) as client:
            client.send(b"GET /master HT")


def test_a_request_that_waits_is_counted_once_and_as_a_fallback(
    quiet: Daemon, client: Client
) -> None:
    """A waiting request is parsed once and answered later."""
    path = f"/replica?min_lsn={FAR}&wait_ms=100"
    before = counted(quiet, "pg_status_fallbacks_total")
    with counting(quiet) as expected:
        for _ in range(3):
            assert client.get(path).startswith(b"HTTP/1.1 200 ")
        expected["/replica", "200"] = 3
    assert counted(quiet, "pg_status_fallbacks_total") - before == {("/replica",): 3}


def test_the_master_returned_for_a_replica_is_a_fallback(
    cluster: Cluster, make_daemon: DaemonFactory
) -> None:
    daemon = make_daemon(hosts=cluster.primary.address, pg_port=cluster.primary.port)
    fallbacks = {
        "/replica": 5, "/sync_by_time": 4, "/sync_by_bytes": 3, "/sync_by_time_or_bytes": 2,
        "/sync_by_time_and_bytes": 1, "/most_sync_by_bytes": 6,
    }  # fmt: skip
    with counting(daemon) as expected:
        for path, times in fallbacks.items():
            for _ in range(times):
                assert daemon.text(path) == cluster.primary.address
            expected[path, "200"] += times
        for _ in range(9):
            daemon.text("/master")
        expected["/master", "200"] += 9
    assert counted(daemon, "pg_status_fallbacks_total") == {(k,): n for k, n in fallbacks.items()}
