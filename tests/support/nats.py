"""Real nats-server processes on loopback: one server, or a JetStream cluster of three."""

import json
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from pgstatus.demo.network import Network, free_port
from tests.support.running import Program, answers
from tests.support.waiting import wait_until

PROGRAM = shutil.which("nats-server")
"""None: the Debian package nats-server is not installed."""


class NatsServer(Program):
    """One nats-server. `kill`, `freeze` and `restart` do what happens to a machine."""

    def __init__(self, directory: Path, name: str, address: str, ports: tuple[int, int]) -> None:
        assert PROGRAM is not None, "apt-get install nats-server"
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.address = address
        self.port, monitoring = ports
        self.store = directory / "data"
        self.file = directory / "nats.conf"
        self.monitoring = httpx.Client(base_url=f"http://{address}:{monitoring}", timeout=1)
        super().__init__([PROGRAM, "--config", self.file], directory / "log")

    @property
    def url(self) -> str:
        return f"nats://{self.address}:{self.port}"

    def answers(self) -> bool:
        return answers(self.monitoring, "/varz")

    def get(self, path: str) -> Any:
        return self.monitoring.get(path).json()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """Read the configuration again."""
        self.process.send_signal(signal.SIGHUP)

    def forget(self) -> None:
        """Delete its data."""
        shutil.rmtree(self.store, ignore_errors=True)

    def end(self) -> None:
        if self.process.poll() is None:
            # A frozen process ends too; a graceful end would wait for its clients.
            self.process.kill()
        self.process.wait()


class NatsCluster:
    """Servers n1, n2, n3 with JetStream, each on an address of its own."""

    def __init__(
        self,
        directory: Path,
        network: Network,
        *,
        servers: int = 3,
        first: int = 240,
        extra: str = "",
        jetstream: str | None = "",
    ) -> None:
        """``extra``: lines of the configuration of each server; ``jetstream``: of this section,
        None: without it.
        """
        self._undo = ExitStack()
        addresses = [network.address(first + number) for number in range(servers)]
        client = free_port(addresses, 4222)
        routes = free_port(addresses, 6222)
        monitoring = free_port(addresses, 8222)
        self.servers: list[NatsServer] = []
        for number, address in enumerate(addresses, 1):
            server = NatsServer(
                directory / f"n{number}", f"n{number}", address, (client, monitoring)
            )
            cluster = (
                f"cluster {{ name: test, listen: '{address}:{routes}', "
                f"routes: {json.dumps([f'nats://{a}:{routes}' for a in addresses])} }}"
                if servers > 1
                else ""
            )
            section = f"jetstream {{ store_dir: '{server.store}', {jetstream} }}"
            if jetstream is None:
                section = ""
            server.file.write_text(
                f"server_name: {server.name}\n"
                f"listen: '{address}:{client}'\n"
                f"http: '{address}:{monitoring}'\n"
                f"{section}\n"
                f"{cluster}\n"
                f"{extra}\n"
            )
            self.servers.append(server)

    @property
    def urls(self) -> str:
        """As in ``pg_status__nats``."""
        return ",".join(server.url for server in self.servers)

    def launch(self, servers: Sequence[NatsServer] | None = None) -> None:
        for server in servers or self.servers:
            server.launch()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self.launch()
            self.wait_until_ready()
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            for server in self.servers:
                error.add_note(f"{server.name}:\n{server.log[-3000:]}")
        self.close()

    def close(self) -> None:
        for server in self.servers:
            if hasattr(server, "process"):
                server.end()
            server.monitoring.close()

    def wait_until_ready(self) -> None:
        """Every server runs, and JetStream has a leader."""
        for server in self.servers:
            wait_until(
                lambda server=server: f"{server.name} runs\n{server.log}",  # type: ignore[misc]
                server.is_ready,
            )
        wait_until("JetStream has a leader", self._has_leader, 30)

    def _has_leader(self) -> bool:
        return any(map(self._leads, self.servers))

    def _leads(self, server: NatsServer) -> bool:
        """It leads JetStream, and all servers are in the group."""
        try:
            found = server.get("/jsz")
        except (httpx.TransportError, ValueError):
            return False
        if len(self.servers) == 1:
            return True
        # Only the leader lists the others.
        replicas = (found.get("meta_cluster") or {}).get("replicas") or ()
        return sum(not replica.get("offline") for replica in replicas) + 1 >= len(self.servers)

    def leader_of(self, stream: str) -> NatsServer | None:
        """The server that leads the group of a stream; None: it has no leader."""
        for server in self.servers:
            try:
                found = server.get("/jsz?streams=1&accounts=1")
            except (httpx.TransportError, ValueError):
                continue
            for account in found.get("account_details") or ():
                for detail in account.get("stream_detail") or ():
                    if detail["name"] == stream:
                        leader = (detail.get("cluster") or {}).get("leader")
                        return next((s for s in self.servers if s.name == leader), None)
        return None
