"""``/watch`` of a real daemon that monitors a real cluster."""

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory, Daemons
from tests.support.daemon import Daemon
from tests.support.events import Subscriber
from tests.support.scrape import scrape
from tests.support.waiting import wait_until


def subscribe(daemon: Daemon, path: str) -> Subscriber:
    return Subscriber.connect((daemon.address, daemon.port), path)


def test_a_failover(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    cluster: Cluster = make_cluster()
    daemon = make_daemon(cluster)
    with (
        subscribe(daemon, "/watch/master") as masters,
        subscribe(daemon, "/watch/replica?lag_ms=10000") as replicas,
        subscribe(daemon, "/watch") as hosts,
    ):
        before = cluster.primary.address
        assert masters.hosts() == [before]
        assert hosts.next("hosts").data["master"] == f"{before}:{cluster.primary.port}"
        cluster.fail_over()
        after = cluster.primary.address
        while masters.hosts() != [after]:
            pass
        # The answers of requests and of streams are from the same snapshot.
        assert daemon.text("/master") == after
        [left] = cluster.replicas_without(cluster.servers[0])
        while replicas.hosts() != [left.address]:
            pass
        while (event := hosts.next("hosts").data)["master"] != f"{after}:{cluster.primary.port}":
            pass
        assert event["hosts"][0]["master"] is False


def test_a_reload_ends_streams_and_a_new_one_has_the_new_hosts(
    cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    variables = tmp_path / "env"
    first, *others = [server.address for server in cluster.servers]
    variables.write_text(f"pg_status__hosts={','.join([first, *others])}\n")
    daemon = daemons.prepare(env_file=variables, pg_port=cluster.primary.port)
    with daemon, subscribe(daemon, "/watch") as stream, subscribe(daemon, "/watch") as poll:
        event = stream.next("hosts")
        assert len(event.data["hosts"]) == 3
        poll.next()
        variables.write_text(f"pg_status__hosts={first},{others[0]}\n")
        os.kill(daemon.pid, signal.SIGHUP)
        stream.rest()
        poll.rest()
        with subscribe(daemon, "/watch") as again:
            later = again.next("hosts")
            assert len(later.data["hosts"]) == 2
            assert later.id.partition("-")[0] == event.id.partition("-")[0]


def test_a_stop_ends_streams_promptly(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster)
    with ExitStack() as stack:
        streams = [stack.enter_context(subscribe(daemon, "/watch/master")) for _ in range(50)]
        assert {stream.hosts()[0] for stream in streams} == {cluster.primary.address}
        assert daemon.stop() == 0
        for stream in streams:
            stream.rest()


def test_a_token_is_required(cluster: Cluster, make_daemon: DaemonFactory, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    daemon = make_daemon(cluster, http_token_file=token)
    with subscribe(daemon, "/watch/master") as stream:
        assert stream.head.startswith("HTTP/1.1 401")
    sock = socket.create_connection((daemon.address, daemon.port))
    header = "Authorization: Bearer 0123456789abcdef\r\n"
    with Subscriber(sock, "/watch/master", headers=header) as stream:
        assert stream.hosts() == [cluster.primary.address]


def test_a_unix_socket(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    daemon = daemons.prepare(cluster)
    path = tmp_path / "http.sock"
    daemon.environment["pg_status__http_listen_address"] = f"unix:{path}"
    with daemon.launched():
        sock = socket.socket(socket.AF_UNIX)
        # The file exists a moment before the socket listens.
        wait_until("it listens", lambda: sock.connect_ex(str(path)) == 0)
        with Subscriber(sock, "/watch/master") as stream:
            while stream.hosts() != [cluster.primary.address]:
                pass


def test_metrics(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    daemon = make_daemon(cluster)

    def value(name: str) -> float:
        return scrape(daemon)[name][()]

    assert value("pg_status_watchers") == 0
    with subscribe(daemon, "/watch/master") as stream:
        stream.next()
        assert value("pg_status_watchers") == 1
        stream.next("alive")
        assert value("pg_status_watch_events_total") >= 1
    wait_until("it is forgotten", lambda: value("pg_status_watchers") == 0)
