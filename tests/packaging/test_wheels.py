"""The built wheels: the client beside the libraries of an application, the command, and both in one
environment. Each environment has an interpreter of its own, without the source tree.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pgstatus import __version__
from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory
from tests.matrix.pythons import CLIENT_PYTHONS, python

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")
DAEMON = ("falcon", "gunicorn", "environs", "psycopg", "prometheus-client", "rich")

ASK = """
import asyncio, sys
from pgstatus.client import AsyncPgStatusClient, PgStatusClient

url = sys.argv[1]
with PgStatusClient(url) as client:
    print(client.master().host, client.replica().role)

async def main():
    async with AsyncPgStatusClient(url) as client:
        print((await client.master()).host, (await client.replica()).role)

asyncio.run(main())
"""


def run(*command: object) -> str:
    done = subprocess.run(
        [*map(str, command)], check=False, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Wheels:
    """The wheels of one build."""

    daemon: Path
    client: Path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Built from the source distributions, as they are published."""
    directory = tmp_path_factory.mktemp("wheels")
    run(UV, "build", "--quiet", "--all-packages", "--directory", ROOT, "--out-dir", directory)
    (daemon,) = directory.glob(f"pg_status-{__version__}-py3-none-any.whl")
    (client,) = directory.glob(f"pg_status_client-{__version__}-py3-none-any.whl")
    return Wheels(daemon, client)


class Environment:
    """A virtual environment."""

    def __init__(self, directory: Path, python: Path) -> None:
        self._directory = directory
        run(UV, "venv", "--quiet", "--python", python, directory)

    def program(self, name: str) -> Path:
        return self._directory / "bin" / name

    def pip(self, action: str, *arguments: object) -> str:
        return run(UV, "pip", action, *arguments, "--python", self.program("python"))

    def python(self, code: str, *arguments: object) -> str:
        # Isolated: neither the source tree nor PYTHONPATH is used.
        return run(self.program("python"), "-I", "-W", "error", "-c", code, *arguments)

    def packages(self) -> set[str]:
        return {re.split("==| @ ", line)[0] for line in self.pip("freeze").splitlines()}


MakeEnvironment = Callable[[str], Environment]


@pytest.fixture
def make_environment(tmp_path: Path) -> MakeEnvironment:
    return lambda version: Environment(tmp_path / f"python{version}", python(version))


def test_no_file_is_in_both_wheels(wheels: Wheels, make_environment: MakeEnvironment) -> None:
    list_files = "import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep='\\n')"
    daemon, client = (
        {
            name
            for name in run(sys.executable, "-c", list_files, wheel).split()
            if ".dist" not in name
        }
        for wheel in (wheels.daemon, wheels.client)
    )
    assert daemon & client == set()
    assert {"pgstatus/client/lsn.py", "pgstatus/client/py.typed"} <= client


@pytest.mark.parametrize("version", CLIENT_PYTHONS)
def test_the_client_beside_an_older_gunicorn_and_psycopg(
    wheels: Wheels,
    make_environment: MakeEnvironment,
    version: str,
    cluster: Cluster,
    make_daemon: DaemonFactory,
) -> None:
    environment = make_environment(version)
    environment.pip("install", f"{wheels.client}[sqlalchemy]", "gunicorn==23.*", "psycopg==3.1.*")
    environment.pip("check")
    assert not (environment.packages() & set(DAEMON)) - {"gunicorn", "psycopg"}
    environment.python("import gunicorn, pgstatus.sqlalchemy, pgstatus.sqlalchemy.test_utils")
    daemon = make_daemon(cluster, sleep_ms=100)
    answers = environment.python(ASK, daemon.url).splitlines()
    assert answers == [f"{cluster.primary.address} replica"] * 2


def test_the_client_alone_installs_an_http_library_only(
    wheels: Wheels, make_environment: MakeEnvironment
) -> None:
    environment = make_environment("3.11")
    environment.pip("install", wheels.client)
    assert environment.packages() == {
        "pg-status-client", "httpcore2", "h11", "truststore", "anyio", "idna", "typing-extensions",
    }  # fmt: skip
    environment.python("import pgstatus.client")


def test_the_daemon_alone_provides_the_command(
    wheels: Wheels, make_environment: MakeEnvironment
) -> None:
    environment = make_environment("3.11")
    environment.pip("install", wheels.daemon)
    assert set(DAEMON) <= environment.packages()
    assert not environment.packages() & {"httpcore2", "sqlalchemy", "pg-status-client"}
    assert run(environment.program("pg-status"), "--version").split()[-1] == __version__
    done = subprocess.run(
        [environment.program("pg-status"), "demo"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.search(r"server are missing\. Install .* -m pip install '", done.stderr)


@pytest.mark.parametrize("extra", ["client", "sqlalchemy"])
def test_the_extras_of_the_daemon_install_the_client(
    wheels: Wheels, make_environment: MakeEnvironment, extra: str
) -> None:
    environment = make_environment("3.11")
    environment.pip("install", f"{wheels.daemon}[{extra}]", "--find-links", wheels.client.parent)
    environment.python(f"import pgstatus.{extra}")
    run(environment.program("pg-status"), "--version")


def test_either_distribution_can_be_removed(
    wheels: Wheels, make_environment: MakeEnvironment
) -> None:
    environment = make_environment("3.11")
    environment.pip("install", wheels.daemon, wheels.client)
    environment.python("import pgstatus.client")
    environment.pip("uninstall", "pg-status")
    environment.python("import pgstatus.client")
    environment.pip("install", wheels.daemon)
    environment.pip("uninstall", "pg-status-client")
    run(environment.program("pg-status"), "--version")
