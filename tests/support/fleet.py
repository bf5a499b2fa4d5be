"""Watchers and relays for the tests."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pgstatus.demo.cluster import Cluster, Server
from tests.conftest import Daemons
from tests.support.daemon import Daemon

SLEEP_MS = 500


class Fleet:
    """Watchers of one cluster, and relays."""

    def __init__(
        self, daemons: Daemons, cluster: Cluster, watchers: int | Sequence[Daemon] = 3
    ) -> None:
        """``watchers``: their number, or those that run already."""
        self.daemons = daemons
        self.cluster = cluster
        self.watchers = (
            [self.watcher() for _ in range(watchers)] if isinstance(watchers, int) else watchers
        )

    def watcher(self, unreachable: Iterable[Server] = (), **variables: object) -> Daemon:
        """A watcher that is ready; it cannot reach some of the hosts."""
        variables = {"sleep_ms": SLEEP_MS, **self.hosts(unreachable), **variables}
        return self.daemons.start(None, **variables)

    def hosts(self, unreachable: Iterable[Server] = ()) -> dict[str, object]:
        """The variables of hosts."""
        away = set(unreachable)
        # No server listens at the last address of loopback.
        entries = [
            f"postgresql://{s.address}:{s.port}/postgres?hostaddr=127.255.255.254"
            if s in away
            else f"{s.address}:{s.port}"
            for s in self.cluster.servers
        ]
        return {"hosts": ",".join(entries)}

    def prepare_relay(self, *watchers: Daemon, **variables: object) -> Daemon:
        """A relay that is not running yet."""
        upstreams = ",".join(watcher.url for watcher in watchers or self.watchers)
        return self.daemons.prepare(
            None, **{"sleep_ms": SLEEP_MS, "upstreams": upstreams, **variables}
        )

    def relay(self, *watchers: Daemon, **variables: object) -> Daemon:
        """A relay of these watchers, or of all, that is ready."""
        return self.daemons.enter(self.prepare_relay(*watchers, **variables))


@contextmanager
def frozen(*daemons: Daemon) -> Iterator[None]:
    """The processes are suspended."""
    try:
        for daemon in daemons:
            os.kill(daemon.pid, signal.SIGSTOP)
        yield
    finally:
        for daemon in daemons:
            os.kill(daemon.pid, signal.SIGCONT)


def is_master(daemon: Daemon, server: Server) -> bool:
    """The daemon reports this server as the master."""
    return daemon.text("/master") == server.address


def all_in_sync(daemon: Daemon) -> bool:
    """The daemon reports all hosts in sync."""
    hosts = daemon.json("/hosts")
    return bool(hosts) and all(host["in_sync"] for host in hosts)
