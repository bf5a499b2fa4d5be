"""A Debian machine: created with debootstrap, booted with systemd-nspawn.

It shares only the network with this machine, so that it can connect to a cluster on a loopback
address. Its changes are kept in memory and discarded at its end.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from pgstatus.demo.binaries import children_of
from tests.support.running import Program

MIRROR = os.environ.get("PGSTATUS_TEST_MIRROR", "http://deb.debian.org/debian")
UBUNTU_MIRROR = os.environ.get("PGSTATUS_TEST_UBUNTU_MIRROR", "http://archive.ubuntu.com/ubuntu")
CACHE = Path(os.environ.get("PGSTATUS_TEST_CACHE", "/var/cache/pg-status-tests"))
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_UBUNTU = ("jammy", "noble")
# Debian has no package with the keys of Ubuntu.
_UBUNTU_KEYS = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
_UBUNTU_KEYS_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"
# Required by systemd of Debian 13 on a host with the cgroup hierarchy of version 1.
_KERNEL_COMMAND_LINE = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
_ENVIRONMENT = (
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
)


@contextlib.contextmanager
def debootstrap(suite: str, packages: str, *options: str) -> Iterator[Path]:
    """The root directory of a new system on the file system of ``CACHE``; removed if not moved."""
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=CACHE, prefix=f"{suite}."))
    # An older debootstrap does not know the name of a newer release.
    mirror, script = MIRROR, _SCRIPTS / "sid"
    try:
        if suite in _UBUNTU:
            mirror, script = UBUNTU_MIRROR, _SCRIPTS / "gutsy"
            keyring = f"--keyring={_ubuntu_keyring(directory)}"
            options = (*options, keyring, "--components=main,universe")
        subprocess.run(
            [
                "debootstrap", "--variant=minbase", f"--include={packages}", *options, suite,
                directory / "root", mirror, script,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        yield directory / "root"
    finally:
        shutil.rmtree(directory)


def _ubuntu_keyring(directory: Path) -> Path:
    package = directory / "keyring.deb"
    with urllib.request.urlopen(f"{UBUNTU_MIRROR}/{_UBUNTU_KEYS}", timeout=60) as response:
        package.write_bytes(response.read())
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    if digest != _UBUNTU_KEYS_SHA256:
        raise LookupError(f"{_UBUNTU_KEYS} has another content than expected: SHA-256 {digest}")
    subprocess.run(["dpkg-deb", "--extract", package, directory / "keyring"], check=True)
    return directory / "keyring/usr/share/keyrings/ubuntu-archive-keyring.gpg"


def base(suite: str) -> Path:
    """The root directory of a new ``suite``; created once and never modified."""
    directory = CACHE / suite
    if not directory.exists():
        with debootstrap(suite, "systemd,systemd-sysv,dbus,ca-certificates") as root:
            root.rename(directory)
    return directory


class Machine(Program):
    """A machine; its process is systemd-nspawn, its log is the console."""

    patience = 60.0

    def __init__(self, suite: str, log: Path) -> None:
        self.suite = suite
        command = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
            "--volatile=overlay", f"--directory={base(suite)}", "--console=pipe",
            f"--machine=pg-status-{suite}-{os.getpid()}", _KERNEL_COMMAND_LINE,
        ]  # fmt: skip
        super().__init__(command, log)

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            # Its first process, and thereby the whole machine.
            for pid in children_of(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self.process.kill()
            self.process.wait()

    @property
    def leader(self) -> int:
        """The process ID of its first process on this machine."""
        (pid,) = children_of(self.process.pid)
        return pid

    def path(self, path: str) -> Path:
        """The path of a file of the machine, for access from outside."""
        return Path(f"/proc/{self.leader}/root{path}")

    def try_run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as root; stdout and stderr are combined."""
        return subprocess.run(
            [
                "nsenter", f"--target={self.leader}", "--all",
                "env", "--chdir=/", "--ignore-environment", *_ENVIRONMENT, *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )  # fmt: skip

    def run(self, *command: str) -> str:
        """The same; AssertionError with the output if the command fails."""
        done = self.try_run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout

    def show(self, unit: str, what: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", unit).strip()

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def processes(self, unit: str) -> list[int]:
        """The process IDs of a unit on this machine, the main process first."""
        main = int(self.show(unit, "MainPID"))
        if main == 0:
            return []
        # The last number of NSpid is the process ID inside the machine.
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = status.read_text()
                numbers = text.partition("NSpid:")[2].partition("\n")[0].split()
                if len(numbers) > 1 and int(numbers[-1]) == main and self._is_mine(status.parent):
                    pid = int(status.parent.name)
                    return [pid, *children_of(pid)]
        return []

    def _is_mine(self, process: Path) -> bool:
        mine = Path(f"/proc/{self.leader}/ns/pid").readlink()
        return (process / "ns/pid").readlink() == mine

    def answers(self) -> bool:
        if not children_of(self.process.pid):
            return False
        return self.try_run("systemctl", "is-system-running").stdout.strip() == "running"
