"""The package on a real Debian system, from installation to purge; the tests run in order."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from tests.packaging.machine import Machine
from tests.support.load import Load
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
ENV_FILE = "/etc/pg-status/pg-status.env"
SERVICE = "pg-status.service"
SECOND = "pg-status@second.service"


def build(directory: Path, version: str) -> Path:
    """Build the package of this source with the given version number."""
    subprocess.run(
        ["packaging/deb/build", directory],
        cwd=ROOT,
        env={**os.environ, "VERSION": version},
        check=True,
    )
    return directory / f"pg-status_{version}_amd64.deb"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"), "1.0~test")


@pytest.fixture(scope="module")
def newer_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("newer"), "1.0")


@pytest.fixture(scope="module")
def url(network: Network) -> str:
    address = network.address(1)
    return f"http://{address}:{free_port([address], 8000)}"


@pytest.fixture(scope="module")
def second_url(network: Network) -> str:
    address = network.address(2)
    return f"http://{address}:{free_port([address], 8000)}"


def migration(language: str, containing: str) -> str:
    """A block of docs/clusters.md."""
    section = (ROOT / "docs/clusters.md").read_text().partition("## Migration from several")[2]
    blocks = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    (found,) = (block for block in blocks if containing in block)
    return textwrap.dedent(str(found))


def configure(machine: Machine, outside: Cluster, url: str, **variables: object) -> None:
    """Write the configuration file; owner and mode are kept."""
    address, port = url.removeprefix("http://").split(":")
    variables = {
        "hosts": ",".join(server.address for server in outside.servers),
        "pg_port": outside.primary.port,
        "http_listen_address": address,
        "http_port": port,
        "sleep_ms": 500,
        **variables,
    }
    text = "".join(f"pg_status__{name}={value}\n" for name, value in variables.items())
    machine.path(ENV_FILE).write_text(text)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def answers(url: str, master: str) -> bool:
    try:
        return get(f"{url}/master") == master
    except OSError:
        return False


def hosts(url: str) -> set[str]:
    return {entry["host"] for entry in json.loads(get(f"{url}/hosts"))}


def test_the_build_is_reproducible(package: Path, tmp_path: Path) -> None:
    again = build(tmp_path, "1.0~test")
    assert package.read_bytes() == again.read_bytes()


def test_lintian_reports_nothing(package: Path) -> None:
    done = subprocess.run(
        [
            "lintian", "--profile=debian", "--fail-on=error,warning", "--allow-root", package,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_package_is_compressed_with_the_same_program_on_every_release(package: Path) -> None:
    """The default of dpkg is xz on Debian and zstd on Ubuntu."""
    members = subprocess.run(["ar", "t", package], capture_output=True, text=True, check=True)
    assert members.stdout.split() == ["debian-binary", "control.tar.xz", "data.tar.xz"]


def test_the_package_is_small_and_contains_no_tools(package: Path) -> None:
    assert package.stat().st_size < 6_000_000
    names = subprocess.run(
        ["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True
    ).stdout
    assert not re.search(r"/(pip|uv|tests?|testing|__pycache__|node_modules)(/|\n)|\.pyc\n", names)


def test_the_installation_prints_what_to_configure(machine: Machine, package: Path) -> None:
    shutil.copy(package, machine.path("/root/pg-status.deb"))
    machine.run("apt-get", "--quiet", "update")
    words = machine.run(
        "apt-get", "--quiet", "--yes", "install", "--no-install-recommends", "/root/pg-status.deb"
    )
    assert "pg_status__hosts is not set" in words
    assert f"Complete {ENV_FILE}" in words
    assert machine.show(SERVICE, "ActiveState") == "inactive"
    assert machine.show(SERVICE, "UnitFileState") == "enabled"
    assert machine.run("systemctl", "is-system-running").strip() == "running"


def test_the_installed_files(machine: Machine) -> None:
    assert machine.run("stat", "-c", "%a %U:%G", ENV_FILE).strip() == "640 root:pg-status"
    directory = "/etc/pg-status/clusters.d"
    assert machine.run("stat", "-c", "%a %U:%G", directory).strip() == "750 root:pg-status"
    assert machine.run("dpkg", "--verify", "pg-status") == ""
    # No conffile: an upgrade never asks about a changed file.
    assert machine.run("dpkg-query", "-W", "-f", "${Conffiles}", "pg-status") == ""
    assert machine.run("pg-status", "--version")
    assert machine.run("test", "-s", "/usr/share/man/man8/pg-status.8.gz") == ""
    examples = "/usr/share/doc/pg-status/examples"
    assert machine.run("test", "-x", f"{examples}/pgbouncer/pgbouncer-follow") == ""
    for name in ("haproxy/haproxy.cfg", "prometheus/alerts.yml", "prometheus/pg-status.json"):
        assert machine.run("cat", f"{examples}/{name}") == (ROOT / "packaging" / name).read_text()
    words = machine.run(
        "bash", "-c",
        ". /usr/share/bash-completion/completions/pg-status; COMP_WORDS=(pg-status he); "
        "COMP_CWORD=1; _pg_status; echo ${COMPREPLY[@]}",
    )  # fmt: skip
    assert words.strip() == "health"


def test_without_hosts_the_service_fails_once_with_the_reason(machine: Machine) -> None:
    assert machine.try_run("systemctl", "start", SERVICE).returncode != 0
    assert machine.show(SERVICE, "ActiveState") == "failed"
    assert machine.show(SERVICE, "NRestarts") == "0"
    assert "pg_status__hosts is not set" in machine.try_run("systemctl", "status", SERVICE).stdout
    machine.run("systemctl", "reset-failed")


def test_the_service_is_ready_when_start_returns(
    machine: Machine, outside: Cluster, url: str
) -> None:
    configure(machine, outside, url)
    machine.run("systemctl", "start", SERVICE)
    assert get(f"{url}/ready") == "OK"
    assert get(f"{url}/master") == outside.primary.address
    assert len(hosts(url)) == 3
    status = machine.run("systemctl", "status", SERVICE)
    wait_until("a status line", lambda: "3 of 3 hosts alive" in machine.show(SERVICE, "StatusText"))
    assert "pg-status" in status


def test_the_service_listens_on_the_configured_address_only(machine: Machine, url: str) -> None:
    port = int(url.rpartition(":")[2])
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = re.findall(rf"\d+: ([0-9A-F]+):{port:04X} 0+:0000 0A", table)
    assert "00000000" not in listening
    assert "0" * 32 not in listening


def test_the_sandbox(machine: Machine) -> None:
    words = machine.run("systemd-analyze", "security", "--no-pager", SERVICE)
    exposure = float(re.findall(r"Overall exposure level for \S+: ([0-9.]+)", words)[0])
    assert exposure <= 1.5
    pids = machine.processes(SERVICE)
    assert len(pids) == 1
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
        for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
            assert re.search(rf"^Cap{kind}:\t0+$", status, re.MULTILINE)
        assert not re.search(r"^Uid:\t0\t", status, re.MULTILINE)
        mounts = Path(f"/proc/{pid}/mounts").read_text()
        assert re.search(r"^\S+ / \S+ ro,", mounts, re.MULTILINE)


def test_the_service_uses_less_than_half_of_its_memory_limit(machine: Machine, url: str) -> None:
    limit = int(machine.show(SERVICE, "MemoryMax"))
    used = 0
    for pid in machine.processes(SERVICE):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        used += 1024 * int(re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[0])
    assert used < limit / 2, f"{used} of {limit}"


def test_reload_loses_no_request(machine: Machine, outside: Cluster, url: str) -> None:
    primary, first = outside.primary.address, outside.replicas[0].address
    before = machine.processes(SERVICE)
    with Load(url, "/master") as load:
        configure(machine, outside, url, hosts=f"{primary},{first}")
        machine.run("systemctl", "reload", SERVICE)
        wait_until("a host less", lambda: hosts(url) == {primary, first})
        configure(machine, outside, url, max_fails=5)
        machine.run("systemctl", "reload", SERVICE)
        wait_until("a host more", lambda: len(hosts(url)) == 3)
    assert load.failures == []
    assert set(load.bodies) == {primary}
    assert machine.processes(SERVICE) == before
    assert machine.show(SERVICE, "ActiveState") == "active"


def test_a_broken_file_is_refused(machine: Machine, outside: Cluster, url: str) -> None:
    configure(machine, outside, url, sleep_ms="soon", http_port="none")
    done = machine.try_run("systemctl", "reload", SERVICE)
    assert done.returncode != 0
    assert "pg_status__sleep_ms='soon'" in machine.journal(SERVICE)
    assert "pg_status__http_port='none'" in machine.journal(SERVICE)
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=HUP", SERVICE)
    wait_until("refused", lambda: "reload refused" in machine.journal(SERVICE))
    assert machine.show(SERVICE, "ActiveState") == "active"
    assert answers(url, outside.primary.address)
    configure(machine, outside, url)


def test_a_killed_process_is_restarted(machine: Machine, outside: Cluster, url: str) -> None:
    (before,) = machine.processes(SERVICE)
    os.kill(before, signal.SIGKILL)
    wait_until("it responds again", partial(answers, url, outside.primary.address))
    assert machine.show(SERVICE, "NRestarts") == "1"
    assert before not in machine.processes(SERVICE)


def test_a_hanging_process_is_restarted(machine: Machine, outside: Cluster, url: str) -> None:
    (before,) = machine.processes(SERVICE)
    began = time.monotonic()
    os.kill(before, signal.SIGSTOP)
    wait_until("restarted", lambda: machine.show(SERVICE, "NRestarts") == "2", 30)
    wait_until("it responds again", partial(answers, url, outside.primary.address))
    assert "Watchdog timeout" in machine.journal(SERVICE)
    assert not Path(f"/proc/{before}").exists()
    assert time.monotonic() - began < 25


def test_with_the_socket_unit_no_connection_is_refused(
    machine: Machine, outside: Cluster, url: str
) -> None:
    address = url.removeprefix("http://")
    drop_in = "/etc/systemd/system/pg-status.socket.d"
    machine.run("mkdir", "-p", drop_in)
    machine.path(f"{drop_in}/address.conf").write_text(
        f"[Socket]\nListenStream=\nListenStream={address}\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "stop", SERVICE)
    machine.run("systemctl", "start", "pg-status.socket")
    machine.run("systemctl", "start", SERVICE)
    try:
        assert "listening on the sockets of the service manager" in machine.journal(SERVICE)
        outcomes: Counter[str] = Counter()
        stop = threading.Event()
        asking = threading.Thread(target=_ask_on_new_connections, args=(address, outcomes, stop))
        asking.start()
        for _ in range(3):
            (before,) = machine.processes(SERVICE)
            os.kill(before, signal.SIGKILL)
            wait_until("another process", partial(_is_another, machine, before))
            wait_until("it responds", partial(answers, url, outside.primary.address))
        stop.set()
        asking.join()
        assert outcomes["refused"] == 0
        assert outcomes["200"] + outcomes["503"] > 50
        # A connection that the killed process had accepted is reset.
        assert outcomes["reset"] <= 3
    finally:
        machine.run("systemctl", "stop", SERVICE, "pg-status.socket")
        machine.run("rm", "-r", drop_in)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", SERVICE)


def _is_another(machine: Machine, before: int) -> bool:
    found = machine.processes(SERVICE)
    return len(found) == 1 and before not in found


def _ask_on_new_connections(address: str, outcomes: Counter[str], stop: threading.Event) -> None:
    host, _, port = address.rpartition(":")
    while not stop.is_set():
        try:
            with socket.create_connection((host, int(port)), 10) as client:
                client.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                outcomes[client.recv(1000)[9:12].decode() or "reset"] += 1
        except ConnectionRefusedError:
            outcomes["refused"] += 1
        except ConnectionResetError:
            outcomes["reset"] += 1


def test_a_new_token_is_in_effect_when_the_reload_returns(
    machine: Machine, outside: Cluster, url: str
) -> None:
    file = "/etc/pg-status/token"
    for token in ("a" * 20, "b" * 20, "c" * 20):
        machine.path(file).write_text(f"{token}\n")
        machine.run("chmod", "644", file)
        configure(machine, outside, url, http_token_file=file)
        machine.run("systemctl", "reload", SERVICE)
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/master", headers=headers).status_code == 200
    configure(machine, outside, url)
    machine.run("systemctl", "reload", SERVICE)


def test_socket_hook_and_commands_in_the_sandbox(
    machine: Machine, outside: Cluster, url: str
) -> None:
    """The sandbox permits a runtime directory, a child process, and the commands."""
    path = "/run/pg-status/pg-status/http.sock"
    configure(
        machine, outside, url, http_listen_address=f"unix:{path}", on_change="/bin/echo noted"
    )
    machine.run("systemctl", "restart", SERVICE)
    assert machine.run("stat", "-c", "%a %U:%G", path).strip() == "660 pg-status:pg-status"
    mine = ["env", f"pg_status__env_file={ENV_FILE}", "pg-status"]
    assert machine.run(*mine, "health") == "OK\n"
    master = f"{outside.primary.address}:{outside.primary.port}"
    assert f"\n{master}  master " in machine.run(*mine, "hosts")
    assert f"+ {outside.primary.address}:" in machine.run(*mine, "explain", "master")
    assert f"\nOK: 3 of 3 hosts responded, master {master}\n" in machine.run(*mine, "check")
    wait_until("it was run", lambda: "on_change: /bin/echo completed" in machine.journal(SERVICE))
    assert "noted" in machine.journal(SERVICE).splitlines()
    machine.run("systemctl", "stop", SERVICE)
    assert not machine.path("/run/pg-status/pg-status").exists()
    configure(machine, outside, url)
    machine.run("systemctl", "start", SERVICE)


def test_a_failover_is_followed(machine: Machine, outside: Cluster, url: str) -> None:
    lost = outside.fail_over()
    wait_until("the new master", partial(answers, url, outside.primary.address), 5)
    outside.rebuild(lost)
    kept = machine.path("/var/lib/pg-status/pg-status.json")
    wait_until("that is kept", lambda: outside.primary.address in kept.read_text())


def test_a_second_cluster_has_an_instance(
    machine: Machine, outside: Cluster, url: str, second_url: str
) -> None:
    configure(machine, outside, second_url, hosts=outside.primary.address)
    machine.run("cp", "--preserve=all", ENV_FILE, "/etc/pg-status/second.env")
    configure(machine, outside, url)
    machine.run("systemctl", "enable", "--now", SECOND)
    assert hosts(second_url) == {outside.primary.address}
    assert len(hosts(url)) == 3


def test_upgrade_keeps_the_configuration_and_restarts(
    machine: Machine, outside: Cluster, url: str, second_url: str, newer_package: Path
) -> None:
    configuration = machine.path(ENV_FILE).read_text()
    before = machine.processes(SERVICE) + machine.processes(SECOND)
    shutil.copy(newer_package, machine.path("/root/newer.deb"))
    machine.run("apt-get", "--quiet", "--yes", "install", "/root/newer.deb")
    assert machine.run("dpkg-query", "-W", "-f", "${Version}", "pg-status") == "1.0"
    assert answers(url, outside.primary.address)
    assert answers(second_url, outside.primary.address)
    assert not set(before) & {*machine.processes(SERVICE), *machine.processes(SECOND)}
    assert machine.path(ENV_FILE).read_text() == configuration
    assert machine.run("stat", "-c", "%a %U:%G", ENV_FILE).strip() == "640 root:pg-status"


def test_the_migration_from_several_instances(
    machine: Machine, outside: Cluster, network: Network, url: str
) -> None:
    """As in docs/clusters.md, with a reload that refuses one file, and back."""
    address = network.address(3)
    ports = [free_port([address], 8000), free_port([address], 8100)]
    for name, own in zip(("orders", "users"), ports, strict=True):
        configure(machine, outside, f"http://{address}:{own}")
        machine.run("cp", "--preserve=all", ENV_FILE, f"/etc/pg-status/{name}.env")
        machine.run("systemctl", "enable", "--now", f"pg-status@{name}")
    before = f"http://{address}:{ports[0]}"
    assert answers(before, outside.primary.address)
    wait_until("the state", machine.path("/var/lib/pg-status/orders.json").exists)

    machine.run("sh", "-eu", "-c", migration("sh", "install -d"))
    kept = machine.run("stat", "-c", "%a %U:%G", "/etc/pg-status/clusters.d/orders.env")
    assert kept.strip() == "640 root:pg-status"
    listen, port = url.removeprefix("http://").split(":")
    text = migration("ini", "clusters_dir").replace("127.0.0.1", listen).replace("8000", port)
    machine.path(ENV_FILE).write_text(text)
    checked = machine.run("sh", "-eu", "-c", migration("sh", "pg-status check"))
    assert checked.endswith("\nOK: 2 of 2 clusters are OK\n")
    shown = machine.run("sh", "-eu", "-c", migration("sh", "systemctl restart"))
    assert "2 of 2 clusters with a master" in shown
    assert answers(f"{url}/c/orders", outside.primary.address)
    machine.run("sh", "-eu", "-c", migration("sh", "disable --now"))
    assert machine.processes("pg-status@orders.service") == []
    assert answers(f"{url}/c/users", outside.primary.address)

    users = machine.path("/etc/pg-status/clusters.d/users.env")
    valid = users.read_text()
    users.write_text("pg_status__hosts=\n")
    assert machine.try_run("systemctl", "reload", SERVICE).returncode != 0
    assert "cluster users: pg_status__hosts" in machine.journal(SERVICE)
    assert answers(f"{url}/c/users", outside.primary.address)
    users.write_text(valid)
    machine.run("systemctl", "reload", SERVICE)

    machine.run("sh", "-eu", "-c", migration("sh", "systemctl enable --now"))
    assert answers(before, outside.primary.address)
    machine.run("sh", "-eu", "-c", migration("sh", "disable --now"))
    configure(machine, outside, url)
    machine.run("systemctl", "restart", SERVICE)


def test_stop_takes_less_than_two_seconds(machine: Machine, outside: Cluster, url: str) -> None:
    with Load(url, "/master", per_second=100):
        began = time.monotonic()
        machine.run("systemctl", "stop", SERVICE)
        assert time.monotonic() - began < 2
    assert machine.show(SERVICE, "Result") == "success"
    machine.run("systemctl", "start", SERVICE)


def test_remove_stops_the_service_and_keeps_the_configuration(machine: Machine, url: str) -> None:
    pids = machine.processes(SERVICE) + machine.processes(SECOND)
    assert len(pids) == 2
    machine.run("apt-get", "--quiet", "--yes", "remove", "pg-status")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(urllib.error.URLError):
        get(url)
    assert machine.path(ENV_FILE).exists()
    assert not machine.path("/usr/lib/pg-status").exists()


def test_purge_removes_everything(machine: Machine) -> None:
    machine.run("apt-get", "--quiet", "--yes", "purge", "pg-status")
    left = machine.run(
        "find", "/", "-xdev", "(", "-iname", "*pg-status*", "-o", "-iname", "*pgstatus*", "-o",
        "-nouser", "-o", "-nogroup", ")", "!", "-path", "/root/*", "-print",
    )  # fmt: skip
    assert left == ""
    assert machine.try_run("getent", "passwd", "pg-status").returncode != 0
    assert machine.try_run("getent", "group", "pg-status").returncode != 0
    assert machine.run("systemctl", "is-system-running").strip() == "running"
