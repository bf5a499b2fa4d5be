"""The content of answers: the fields of this version, and of older ones that send fewer."""

import json
import os
import warnings
from datetime import UTC, datetime
from typing import Any

import pytest

from pgstatus.client import ChosenHost, HostStatus, NoHostError, UnreachableError
from pgstatus.demo.cluster import Cluster
from tests.client.support import REPLICA, AskerFactory, Server, answer
from tests.conftest import DaemonFactory

# A response of pg-status 2.2.
OLD_HOST = {
    "host": "pg1",
    "master": True,
    "alive": True,
    "lag_ms": 0,
    "lag_bytes": None,
    "sync_by_time": True,
    "sync_by_bytes": True,
}


def body(content: Any) -> bytes:
    return answer(json.dumps(content).encode())


def test_a_chosen_host_of_this_version(make_asker: AskerFactory, server: Server) -> None:
    fields = json.loads(REPLICA)
    server.answer = body({**fields, "dc": "a", "geo": "eu", "stale": True, "unknown": [1]})
    assert make_asker(server.url)("replica", fallback="stale") == ChosenHost(
        "pg2", 5432, "replica", 3, 0, "0/3000060", dc="a", geo="eu", stale=True
    )
    assert server.requests[0].startswith("GET /replica?fallback=stale HTTP/1.1\r\n")


@pytest.mark.parametrize("fallback", ["master", "stale", "none"])
def test_the_fallback_is_sent(make_asker: AskerFactory, server: Server, fallback: str) -> None:
    ask = make_asker(server.url)
    for question in (
        "replica",
        "sync_by_time",
        "sync_by_bytes",
        "sync_by_time_or_bytes",
        "sync_by_time_and_bytes",
        "most_sync_by_bytes",
    ):
        ask(question, fallback=fallback)
        assert server.requests[-1].startswith(f"GET /{question}?fallback={fallback} ")
    with pytest.raises(ValueError, match="expected master, stale or none"):
        ask("replica", fallback="any")


def test_a_chosen_host_of_an_older_version(make_asker: AskerFactory, server: Server) -> None:
    server.answer = body({"host": "pg2"})
    ask = make_asker(server.url)
    assert ask("replica") == ChosenHost("pg2", 5432, "unknown", None, None, None)
    assert ask("master") == ChosenHost(
        "pg2", 5432, "unknown", None, None, None, dc=None, geo=None, stale=False
    )


def test_hosts_of_an_older_version(make_asker: AskerFactory, server: Server) -> None:
    server.answer = body([OLD_HOST])
    (status,) = make_asker(server.url)("hosts")
    assert (status.role, status.port, status.in_sync) == ("master", 5432, True)
    assert (status.upstream, status.admits, status.refusal, status.checked_at) == (None,) * 4


def test_hosts_of_this_version(make_asker: AskerFactory, server: Server) -> None:
    new = {
        "upstream": "pg2:5432",
        "admits": False,
        "refusal": "too many connections",
        "checked_at": "2026-11-26T14:00:00.123Z",
    }
    server.answer = body([{**OLD_HOST, **new}])
    (status,) = make_asker(server.url)("hosts")
    assert (status.upstream, status.admits) == ("pg2:5432", False)
    assert status.refusal == "too many connections"
    assert status.checked_at == datetime(2026, 11, 26, 14, 0, 0, 123000, UTC)


def test_the_status_has_the_name_as_configured(make_asker: AskerFactory, server: Server) -> None:
    server.answer = body([{**OLD_HOST, "host": name, "port": 5433} for name in ("Pg1", "pg2")])
    ask = make_asker(server.url)
    for name in ("pg1", "PG1", "Pg1", "pg1:5433"):
        status = ask("status", host=name)
        assert isinstance(status, HostStatus)
        assert (status.host, status.port) == ("Pg1", 5433)
    for name in ("pg3", "pg1:5432", "pg", ""):
        with pytest.raises(NoHostError):
            ask("status", host=name)


def test_the_status_of_a_real_host(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory
) -> None:
    daemon = make_daemon(cluster)
    name = f"{cluster.primary.address}:{cluster.primary.port}"
    status = make_asker(daemon.url)("status", host=name)
    assert (status.host, status.port) == (cluster.primary.address, cluster.primary.port)
    assert status.dc is None


@pytest.mark.parametrize("content", [{}, [], "x", None, [OLD_HOST, {}], [[]]])
def test_other_content_is_not_an_answer(
    make_asker: AskerFactory, server: Server, content: Any
) -> None:
    server.answer = body(content)
    ask = make_asker(server.url)
    question = "hosts" if isinstance(content, list) and content else "master"
    with pytest.raises(UnreachableError, match="is not pg-status"):
        ask(question)


@pytest.mark.parametrize("lsn", [b'"beyond"', b"5"])
def test_an_invalid_position_in_an_answer(
    make_asker: AskerFactory, server: Server, lsn: bytes
) -> None:
    server.answer = answer(REPLICA.replace(b'"0/3000060"', lsn))
    ask = make_asker(server.url, max_age=60)
    for _ in range(2):
        assert ask("replica", min_lsn="0/1").host == "pg2"
    assert len(server.requests) == 2


def test_a_forked_child(make_asker: AskerFactory, server: Server) -> None:
    """It opens a connection of its own."""
    ask = make_asker(server.url, max_age=0, stale_if_error=0)
    if "Async" in type(ask.client).__name__:
        pytest.skip("an event loop cannot be used in a forked child")
    ask("replica")
    with warnings.catch_warnings():
        # The test process has threads.
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if ask("replica").host == "pg2" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ask("replica")
    assert server.connections == 2
