"""The artefacts in dist/, installed in clean environments: `make release-check` builds them.

The package for arm64 runs with the Python of Debian 13 for arm64 in an emulator of its processor.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pgstatus import __version__
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.matrix.pythons import PYTHONS, python
from tests.packaging.machine import CACHE, debootstrap
from tests.support.running import Program, answers
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")
# Of the emulated machine: python3 and the libraries of its modules.
_ARM_PACKAGES = "python3-minimal,libpython3-stdlib,zlib1g"
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop()); from pgstatus.cli.main import main; main([])"
)
DAEMON_ARTEFACTS = (f"pg_status-{__version__}-py3-none-any.whl", f"pg_status-{__version__}.tar.gz")
CLIENT_ARTEFACTS = (
    f"pg_status_client-{__version__}-py3-none-any.whl",
    f"pg_status_client-{__version__}.tar.gz",
)


def run(*command: object) -> str:
    done = subprocess.run(
        [*map(str, command)], check=False, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Installed(Program):
    """An installed pg-status that monitors a cluster."""

    patience = 120.0

    def __init__(
        self, command: list[str | Path], log: Path, network: Network, cluster: Cluster
    ) -> None:
        address = network.address(1)
        port = free_port([address], 8000)
        super().__init__(
            command,
            log,
            {
                "PATH": os.environ["PATH"],
                "pg_status__hosts": ",".join(server.address for server in cluster.servers),
                "pg_status__pg_port": str(cluster.primary.port),
                "pg_status__http_listen_address": address,
                "pg_status__http_port": str(port),
                # The emulator is slow.
                "pg_status__query_timeout_ms": "10000",
            },
        )
        self.url = f"http://{address}:{port}"
        self._client = httpx.Client(base_url=self.url, timeout=10)

    def answers(self) -> bool:
        try:
            return answers(self._client, "/ready")
        except httpx.TimeoutException:
            return False

    def end(self) -> None:
        self._client.close()
        super().end()

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new virtual environment."""
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "environment")
    return tmp_path / "environment"


@pytest.mark.parametrize("artefact", DAEMON_ARTEFACTS)
def test_the_daemon_is_installed_and_started(
    artefact: str, environment: Path, network: Network, cluster: Cluster, tmp_path: Path
) -> None:
    program = environment / "bin/python"
    run(UV, "pip", "install", "--quiet", "--python", program, DIST / artefact)
    command: list[str | Path] = [environment / "bin/pg-status"]
    with Installed(command, tmp_path / "log", network, cluster) as daemon:
        assert daemon.get("/version").text == __version__
        assert daemon.get("/master").text == cluster.primary.address


@pytest.mark.parametrize("artefact", CLIENT_ARTEFACTS)
def test_the_client_is_installed_and_imported(artefact: str, environment: Path) -> None:
    program = environment / "bin/python"
    run(UV, "pip", "install", "--quiet", "--python", program, f"{DIST / artefact}[sqlalchemy]")
    run(program, "-I", "-W", "error", "-c", "import pgstatus.client, pgstatus.sqlalchemy")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules of the package for amd64."""
    directory = tmp_path_factory.mktemp("amd64")
    run("dpkg-deb", "--extract", DIST / f"pg-status_{__version__}_amd64.deb", directory)
    return directory / "usr/lib/pg-status"


@pytest.mark.parametrize("version", PYTHONS)
def test_the_package_for_amd64_runs_with_every_python(
    version: str, unpacked: Path, network: Network, cluster: Cluster, tmp_path: Path
) -> None:
    command: list[str | Path] = [python(version), "-IS", "-c", _START, unpacked]
    with Installed(command, tmp_path / "log", network, cluster) as daemon:
        assert daemon.get("/master").text == cluster.primary.address


@contextmanager
def arm_machine() -> Iterator[Path]:
    """The unpacked packages of Debian 13 for arm64; downloaded once."""
    directory = CACHE / "trixie-arm64"
    if not directory.exists():
        with debootstrap("trixie", _ARM_PACKAGES, "--foreign", "--arch=arm64") as root:
            for package in (root / "var/cache/apt/archives").glob("*.deb"):
                run("dpkg-deb", "--extract", package, root)
            root.rename(directory)
    yield directory


def test_the_package_for_arm64_runs_in_an_emulator(
    network: Network, cluster: Cluster, tmp_path: Path
) -> None:
    package = DIST / f"pg-status_{__version__}_arm64.deb"
    assert run("dpkg-deb", "--field", package, "Architecture").strip() == "arm64"
    run("dpkg-deb", "--extract", package, tmp_path / "package")
    modules = tmp_path / "package/usr/lib/pg-status"
    with arm_machine() as machine:
        # Bytecode does not depend on the processor; to compile in the emulator takes a minute.
        for directory in (modules, machine / "usr/lib/python3.13"):
            run(python("3.13"), "-m", "compileall", "-q", directory)
        command: list[str | Path] = [
            "qemu-aarch64", "-L", machine, machine / "usr/bin/python3.13", "-IS", "-c", _START,
            modules,
        ]  # fmt: skip
        with Installed(command, tmp_path / "log", network, cluster) as daemon:
            wait_until(
                "the master", lambda: daemon.get("/master").text == cluster.primary.address, 60
            )


def test_the_chart_has_the_version_of_the_release() -> None:
    """`make test-chart` renders it and executes its pods."""
    with tarfile.open(DIST / f"pg-status-{__version__}.tgz") as archive:
        metadata = archive.extractfile("pg-status/Chart.yaml")
        assert metadata is not None
        lines = metadata.read().decode().splitlines()
    assert f"version: {__version__}" in lines
    assert f"appVersion: {__version__}" in lines


def bill(name: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads((DIST / f"{name}-{__version__}.cdx.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    component = document["metadata"]["component"]
    assert (component["version"], component["purl"]) == (
        __version__,
        f"pkg:pypi/{name}@{__version__}",
    )
    return document


def test_the_bill_of_materials_lists_what_the_package_contains(unpacked: Path) -> None:
    contained = {
        match[1].replace("_", "-").lower(): match[2]
        for path in unpacked.glob("*.dist-info")
        if (match := re.fullmatch(r"(.+)-(.+)\.dist-info", path.name))
    }
    listed = {each["name"]: each["version"] for each in bill("pg-status")["components"]}
    assert listed == contained


def test_the_bill_of_materials_of_the_client_lists_what_its_extras_install() -> None:
    listed = {component["name"] for component in bill("pg-status-client")["components"]}
    assert {"httpcore2", "sqlalchemy", "psycopg", "asyncpg", "django"} <= listed
    assert not {"pytest", "ruff", "tzdata"} & listed
