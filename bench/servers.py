"""The servers that are compared: same address, same core, same response."""

import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.patroni import prepare as prepare_patroni
from bench.processes import tree

_NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen {address}:{port};
    location / {{ default_type text/plain; return 200 "{body}"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A running server. ``pid`` is None if only its URL is known."""

    name: str
    url: str
    """Of its response with the master."""
    pid: int | None

    @property
    def pids(self) -> list[int]:
        return [] if self.pid is None else tree(self.pid)

    @property
    def has_all_paths(self) -> bool:
        """The server has the other endpoints of pg-status too."""
        return self.url.endswith("/master") and not self.name.startswith("nginx")

    @property
    def base(self) -> str:
        return self.url.rsplit("/", 1)[0]


class Bench:
    """Starts servers on a core and an address, and stops all of them at the end."""

    def __init__(self, address: str, hosts: str, pg_port: int, core: int, directory: Path) -> None:
        self._address = address
        self._core = core
        self._directory = directory
        self._undo = ExitStack()
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("pg_status__")},
            "pg_status__hosts": hosts,
            "pg_status__pg_port": str(pg_port),
            "pg_status__http_listen_address": address,
            "pg_status__sleep_ms": "1000",
            "pg_status__log_level": "warning",
        }

    def ours(self, port: int = 8000) -> Server:
        return self._python("pg-status", ["-m", "pgstatus"], port)

    def plain(self, port: int = 8001) -> Server:
        return self._python("gunicorn + Falcon, plain", ["-m", "bench.plain"], port)

    def nginx(self, port: int = 8002) -> Server:
        config = self._directory / "nginx.conf"
        config.write_text(
            _NGINX.format(
                directory=self._directory, address=self._address, port=port, body=self._address
            )
        )
        command = ["nginx", "-c", str(config), "-e", str(self._directory / "nginx.err")]
        return self._start("nginx return 200", command, {}, f"{self._address}:{port}")

    def patroni(self, bindir: Path, address: str, port: int = 8008) -> Server:
        command = prepare_patroni(self._directory / "patroni", bindir, address, port)
        log = (self._directory / "patroni.log").open("wb")
        self._undo.callback(log.close)
        return self._start(
            "Patroni REST API", command, {}, f"{address}:{port}", path="/primary", stderr=log
        )

    def others(self) -> list[Server]:
        """The servers in ``PEER_URLS``: ``name=url`` or ``name=url#pid``, separated by commas."""
        found = []
        for item in filter(None, os.environ.get("PEER_URLS", "").split(",")):
            name, _, url = item.partition("=")
            url, _, pid = url.partition("#")
            found.append(Server(name, url, int(pid) if pid else None))
        return found

    def stop(self) -> None:
        self._undo.close()

    def _python(self, name: str, arguments: list[str], port: int) -> Server:
        environment = {**self._environment, "pg_status__http_port": str(port)}
        return self._start(
            name, [sys.executable, *arguments], environment, f"{self._address}:{port}"
        )

    def _start(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        at: str,
        *,
        path: str = "/master",
        stderr: IO[bytes] | None = None,
    ) -> Server:
        process = subprocess.Popen(
            ["taskset", "-c", str(self._core), *command],
            env=environment or None,
            stderr=stderr,
            stdout=stderr,
        )
        self._undo.callback(process.wait, 30)
        self._undo.callback(process.terminate)
        server = Server(name, f"http://{at}{path}", process.pid)
        wait_for(server.url, 60)
        return server


def wait_for(url: str, timeout: float = 15.0) -> None:
    """Wait until the URL returns 200."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not respond")
        time.sleep(0.005)
