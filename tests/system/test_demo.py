"""`pg-status demo` and `pg-status failover`, as a new user runs them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pgstatus.demo.binaries import Binaries, bundled
from pgstatus.demo.network import free_port
from tests.support.running import Program, answers

ADDRESS = "127.0.0.1"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A temporary directory for this demo alone; the account that runs PostgreSQL can access it."""
    directory = Path(tempfile.mkdtemp(prefix="pg-status-test-"))
    directory.chmod(0o755)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("pg_status__", "PG"))}
    yield {**inherited, "TMPDIR": str(directory)}
    shutil.rmtree(directory)


class Demo(Program):
    """A demo on a free port."""

    patience = 40.0

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        # The demo listens only after some seconds: test processes begin with different ports.
        port = free_port([ADDRESS], 18000 + os.getpid() % 10_000)
        command = [sys.executable, "-m", "pgstatus", "demo", "--port", str(port)]
        super().__init__(command, log, environment)
        self.client = httpx.Client(base_url=f"http://{ADDRESS}:{port}", timeout=5)

    def end(self) -> None:
        self.client.close()
        super().end()

    def answers(self) -> bool:
        return "ready. In another terminal" in self.log and answers(self.client, "/ready")


def fail_over(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pgstatus", "failover"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_demo_with_a_failover_and_nothing_left_behind(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # The settings of the user for other databases do not apply to the demo.
    others = {"PGSSLMODE": "verify-full", "PGPASSWORD": "wrong", "pg_status__max_fails": "x"}
    with Demo(tmp_path / "log", environment | others) as demo:
        first = demo.client.get("/master").text
        done = fail_over(environment)
        assert done.returncode == 0, done.stderr
        assert f"/master returns {first}\n" in done.stdout
        assert demo.client.get("/master").text != first
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(60) == 0, demo.log
    with pytest.raises(httpx.TransportError):
        httpx.get(str(demo.client.base_url))
    left = [path.name for path in Path(environment["TMPDIR"]).iterdir()]
    assert left == []


def test_a_port_in_use_is_an_error_that_names_a_free_one(environment: dict[str, str]) -> None:
    with socket.create_server((ADDRESS, 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "pgstatus", "demo", "--port", str(port)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {port} of {ADDRESS} is in use" in done.stderr
    assert re.search(r"choose another one: \S*pg-status demo --port \d+$", done.stderr.strip())


def test_a_port_that_does_not_exist_is_an_invalid_argument(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgstatus", "demo", "--port", "99999"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected a whole number, from 1 to 65535" in done.stderr


def test_a_failover_without_a_demo(environment: dict[str, str]) -> None:
    done = fail_over(environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"no demo is running: start one with `\S*pg-status demo`", done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root uses another account for the servers")
def test_programs_that_the_account_of_the_servers_cannot_access(tmp_path: Path) -> None:
    """As in a virtual environment below /root. They are copied, with their libraries."""
    installation = bundled("18").parent
    package, hidden = installation.parent, tmp_path / "site-packages"
    hidden.mkdir(mode=0o700)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), hidden / libraries, symlinks=True)
    copied = hidden / package.name / installation.name
    shutil.copytree(installation, copied, symlinks=True)
    with tempfile.TemporaryDirectory() as workdir:
        Path(workdir).chmod(0o755)
        binaries = Binaries.prepare(copied / "bin", Path(workdir))
        assert binaries.bindir.is_relative_to(workdir)
        for program in ("postgres", "initdb", "pg_basebackup", "pg_controldata"):
            assert "PostgreSQL" in binaries.run(program, "--version")
