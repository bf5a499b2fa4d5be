"""Patroni's REST API for comparison: one node with its own PostgreSQL server, and Raft.

It is installed from PyPI into the directory of the run: it must run as the account that runs
PostgreSQL, which may have no access to the virtual environment of the benchmark.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pgstatus.demo.binaries import Binaries
from pgstatus.demo.cluster import PASSWORD

_REQUIREMENTS = ("patroni[raft]==4.1.5", "psycopg[binary]==3.3.9")
_CONFIG = """
scope: bench
name: patroni
restapi: {{listen: "{address}:{port}", connect_address: "{address}:{port}"}}
raft: {{data_dir: {directory}/raft, self_addr: "{address}:2222"}}
bootstrap: {{dcs: {{loop_wait: 1}}}}
postgresql:
  listen: "{address}:5432"
  connect_address: "{address}:5432"
  data_dir: {directory}/data
  bin_dir: {bindir}
  pgpass: {directory}/pgpass
  authentication:
    superuser: {{username: postgres, password: {password}}}
    replication: {{username: replicator, password: {password}}}
  parameters: {{unix_socket_directories: ""}}
"""


def prepare(directory: Path, bindir: Path, address: str, port: int) -> list[str]:
    """Install and configure Patroni below ``directory``; return the command that runs it."""
    directory.mkdir()
    binaries = Binaries.prepare(bindir, directory)
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    environment = directory / "venv"
    # The account may have no access to the interpreter that runs the benchmark.
    run: Callable[..., object] = subprocess.run
    run([uv, "venv", "--quiet", "--python", "/usr/bin/python3", environment], check=True)
    run(
        [uv, "pip", "install", "--quiet", "--python", environment / "bin/python", *_REQUIREMENTS],
        check=True,
    )
    for name in ("raft", "data"):
        (directory / name).mkdir(mode=0o700)
        if binaries.account is not None:
            shutil.chown(directory / name, binaries.account)
    config = directory / "patroni.yml"
    config.write_text(
        _CONFIG.format(
            address=address, port=port, directory=directory, bindir=binaries.bindir,
            password=PASSWORD,
        )
    )  # fmt: skip
    command = [str(environment / "bin/patroni"), str(config)]
    if binaries.account is None:
        return command
    return ["setpriv", f"--reuid={binaries.account}", "--clear-groups", *command]
