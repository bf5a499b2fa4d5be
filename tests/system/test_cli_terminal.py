"""``pg-status hosts`` on a terminal of 80 columns and 24 lines."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import ClusterFactory, DaemonFactory
from tests.support.daemon import Daemon
from tests.support.reverse_proxy import reverse_proxy
from tests.support.terminal import COLUMNS, Terminal, terminal
from tests.support.waiting import wait_until

GREY, YELLOW = "brightblack", "brown"


@contextmanager
def show(daemon: Daemon, *options: str, **environment: str) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "pgstatus", "hosts", *options]
    unset = {"NO_COLOR", "COLUMNS", "LINES"}
    inherited = {k: v for k, v in daemon.environment.items() if k not in unset}
    with terminal(command, {**inherited, "TERM": "xterm", **environment}) as screen:
        yield screen


def name(server: object) -> str:
    return f"{server.address}:{server.port}"  # type: ignore[attr-defined]


def test_colours(daemon: Daemon, cluster: Cluster) -> None:
    with show(daemon) as screen:
        screen.wait_for("2 of 2 live")
        wait_until("it has ended", lambda: screen.process.poll() is not None)
        assert screen.colours(f"master {name(cluster.primary)}") == {"green"}
        assert screen.colours("in sync  ") == {"green"}


@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        ([], {"NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_can_be_disabled(
    daemon: Daemon, options: list[str], environment: dict[str, str], coloured: bool
) -> None:
    with show(daemon, *options, **environment) as screen:
        screen.wait_for("2 of 2 live")
        wait_until("it has ended", lambda: screen.process.poll() is not None)
        assert (screen.all_colours() != {"default"}) is coloured
        assert (b"\033" in screen.output) is coloured


def test_a_failover(make_cluster: ClusterFactory, make_daemon: DaemonFactory) -> None:
    """The former master is marked, problems are explained below the table, and nothing is wider
    than the terminal."""
    cluster = make_cluster()
    daemon = make_daemon(cluster)
    with show(daemon, "--watch") as screen:
        screen.wait_for(f"master {name(cluster.primary)}")
        lost = cluster.fail_over()

        screen.wait_for(f"master {name(cluster.primary)} since ")
        screen.wait_for(f"{name(lost)}  former master  dead")
        assert screen.colours("former master  dead") == {"red"}
        screen.wait_for(f"\n{name(lost)}  Connection refused; ")
        screen.wait_for(" failed checks in a row\n")
        wait_until("the replica follows", lambda: "replicas in sync 1 of 1 live" in screen.text)
        assert max(map(len, screen.lines)) <= COLUMNS
        table = [line for line in screen.lines if line.startswith(name(cluster.primary))]
        assert table[0].split()[1:3] == ["master", "alive"], "the master is first"


def test_the_last_table_stays_while_the_instance_is_unavailable(
    cluster: Cluster, make_daemon: DaemonFactory
) -> None:
    daemon = make_daemon(cluster)
    with show(daemon, "--watch") as screen:
        screen.wait_for("2 of 2 live")
        daemon.stop()

        screen.wait_for("pg-status is unavailable since ")
        assert "Connection refused" in screen.text
        assert "2 of 2 live" in screen.text
        assert screen.colours("pg-status is unavailable") == {"red"}
        assert screen.all_colours() == {"red", GREY}

        daemon.launch()
        wait_until("it is live", lambda: "unavailable" not in screen.text)
        screen.wait_for("2 of 2 live")
        assert "green" in screen.all_colours()


def test_data_of_a_frozen_instance_are_not_shown_as_current(
    cluster: Cluster, make_daemon: DaemonFactory
) -> None:
    """The clock in the heading is that of the last event."""
    daemon = make_daemon(cluster)
    with show(daemon, "--watch") as screen:
        screen.wait_for("2 of 2 live")
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            screen.wait_for("pg-status is unavailable since ")
            assert screen.all_colours() == {"red", GREY}
            at = re.search(r"since (\S+) \(\d+ s\): timeout", screen.text)
            assert at is not None
            assert re.search(rf"^replicas .* {at[1]}$", screen.text, re.MULTILINE)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        wait_until("it is live", lambda: "unavailable" not in screen.text)


def test_an_older_instance_without_a_stream_is_queried_repeatedly(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=1)
    daemon = make_daemon(cluster)
    with (
        reverse_proxy(daemon, "/x", refused=("/watch",)) as proxy,
        show(daemon, "--watch", "0.1", "--url", proxy.url) as screen,
    ):
        screen.wait_for(f"master {name(cluster.primary)}")
        cluster.fail_over()
        screen.wait_for(f"master {name(cluster.primary)}")
        streams = [path for path in proxy.requests if path.startswith("/x/watch")]
        assert len(streams) == 1


@pytest.mark.parametrize("event", [b"1", b"{", b"{}", b'{"hosts": 1}', b'{"hosts": [{}]}'])
def test_a_stream_of_another_server_is_reported(daemon: Daemon, event: bytes) -> None:
    with reverse_proxy(daemon, "/x") as proxy:
        proxy.replaced["/watch"] = b"data: " + event + b"\n\n"
        with show(daemon, "--watch", "--url", proxy.url) as screen:
            if b"{}" not in event:
                screen.wait_for(" s): the server at")
            screen.wait_for("2 of 2 live")
            assert "Traceback" not in screen.text


def test_on_a_dumb_terminal_tables_follow_each_other(daemon: Daemon) -> None:
    with show(daemon, "--watch", "0.1", TERM="dumb") as screen:
        screen.wait_for("2 of 2 live")
        assert b"\033" not in screen.output


def test_with_a_stream_changes_are_not_queried(
    make_cluster: ClusterFactory, make_daemon: DaemonFactory
) -> None:
    cluster = make_cluster(replicas=0)
    daemon = make_daemon(cluster)
    with (
        reverse_proxy(daemon, "/x") as proxy,
        show(daemon, "--watch", "0.1", "--url", proxy.url) as screen,
    ):
        screen.wait_for("0/")
        wait_until("the stream is open", lambda: "/x/watch?every_ms=100" in proxy.requests)
        before = len(proxy.requests)
        shown = screen.text
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'x', repeat('y', 10000))")
        wait_until("a new position is shown", lambda: screen.text.split()[-1] != shown.split()[-1])
        assert len(proxy.requests) == before


def test_the_end_restores_the_terminal_and_leaves_the_last_table(daemon: Daemon) -> None:
    for signum, status in ((signal.SIGINT, 0), (signal.SIGTERM, 143)):
        with show(daemon, "--watch") as screen:
            screen.wait_for("2 of 2 live")
            screen.process.send_signal(signum)
            wait_until("it has ended", lambda s=screen: s.process.poll() is not None)  # type: ignore[misc]
            assert screen.process.returncode == status
            screen.wait_for("2 of 2 live")
            assert screen.output.endswith(b"\n")
            assert b"\033[?1049l" in screen.output, "the alternate screen was left"


def test_dead_hosts_with_long_names_on_a_small_terminal(
    make_daemon: DaemonFactory, cluster: Cluster
) -> None:
    """All are in the table; the explanations of some are left out."""
    dead = [f"pg-{number}.orders-postgresql-hl.production.invalid" for number in range(8)]
    master = f"{cluster.primary.address}:{cluster.primary.port}"
    daemon = make_daemon(hosts=",".join([master, *dead]))
    with show(daemon, "--watch") as screen:
        screen.wait_for(f"master {master}")
        screen.wait_for("  cannot resolve the host name: ")
        rows = ("\n".join(screen.lines)).partition("\n\n")[2].partition("\n\n")[0].splitlines()
        assert [row.split(":")[0] for row in rows[1:]] == [cluster.primary.address, *dead]
        assert "more host" not in screen.text
        wait_until(
            "it is plain text",
            lambda: "Name or service not known" in screen.text or "name resolution" in screen.text,
        )
        assert "[Errno" not in screen.text


@pytest.mark.parametrize("command", [["explain", "replica"], ["check"], ["hosts"]], ids=" ".join)
def test_reasons_are_readable_below_long_names(
    make_daemon: DaemonFactory, cluster: Cluster, command: list[str]
) -> None:
    long = "standby-1.a-rather-long-name.orders.database.svc.cluster.invalid"
    daemon = make_daemon(hosts=f"{cluster.primary.address}:{cluster.primary.port},{long}")
    arguments = [sys.executable, "-m", "pgstatus", *command]
    with terminal(arguments, {**daemon.environment, "TERM": "xterm"}) as screen:
        wait_until("it has ended", lambda: screen.process.poll() is not None)
        number = next(i for i, line in enumerate(screen.lines) if line.endswith(f"{long}:5432"))
        assert re.match(r"  \w.{20}", screen.lines[number + 1])
        assert max(map(len, screen.lines)) <= COLUMNS


def test_many_hosts_on_a_small_terminal(make_daemon: DaemonFactory, cluster: Cluster) -> None:
    """The master and the hosts with problems are shown; the others are counted."""
    hosts = [f"{cluster.primary.address}:{cluster.primary.port}"]
    hosts += [f"{cluster.primary.address}:{port}" for port in range(1, 31)]
    daemon = make_daemon(hosts=",".join(hosts))
    with show(daemon, "--watch") as screen:
        screen.wait_for(" dead\n")
        wait_until(
            "the states of the hidden hosts are shown",
            lambda: re.search(r"^(\d+) more hosts, \1 dead$", screen.text, re.MULTILINE),
        )
        assert screen.lines[1].startswith(f"master {hosts[0]}")
        assert any(line.startswith(hosts[0]) for line in screen.lines)
        screen.wait_for("Connection refused")
        screen.resize(COLUMNS, 60)
        wait_until("all are shown", lambda: "more host" not in screen.text)
