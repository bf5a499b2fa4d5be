"""Images built with buildah and run with crun: no daemon, no registry, one directory."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgstatus.demo.binaries import children_of
from tests.packaging.machine import base
from tests.support.running import Running

ROOT = Path(__file__).parents[2]
# Files of a debootstrapped system that the images of distributions do not contain.
_LEFT_OUT = ("dev/*", "usr/share/doc/*", "usr/share/locale/*", "usr/share/man/*", "var/cache/*",
             "var/lib/apt/lists/*", "var/log/*")  # fmt: skip
# crun fails if both versions of cgroups are mounted: it gets version 2 only.
_CGROUP2_ONLY = 'mount -t cgroup2 none /sys/fs/cgroup 2> /dev/null; exec crun "$@"'
# The build uses the certificate authorities of this machine.
_CERTIFICATES = "/etc/ssl/certs:/etc/ssl/certs:ro"


class Store:
    """The image store of buildah."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def buildah(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            [
                "buildah", "--root", self._directory / "root", "--runroot",
                self._directory / "run", "--storage-driver", "vfs", *arguments,
            ],
            cwd=ROOT,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"buildah {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def import_base(self, suite: str) -> str:
        """Import a debootstrapped system as an image; return its name."""
        archive = self._directory / "base.tar"
        left_out = [f"--exclude=./{pattern}" for pattern in _LEFT_OUT]
        subprocess.run(["tar", "-C", base(suite), *left_out, "-cf", archive, "."], check=True)
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, archive, "/")
        # The base is also booted as a machine; an image has no init system.
        self.buildah(
            "run", container, "--", "apt-get", "--quiet", "--yes", "--allow-remove-essential",
            "--autoremove", "purge", "systemd", "systemd-sysv", "dbus",
        )  # fmt: skip
        self.buildah("commit", "--quiet", "--rm", container, f"localhost/{suite}")
        archive.unlink()
        return f"localhost/{suite}"

    def build(self, file: str, base: str) -> "Image":
        tag = f"localhost/pg-status:{file.rpartition('.')[2]}"
        self.buildah(
            "build", "--quiet", "--format=docker", f"--volume={_CERTIFICATES}",
            f"--build-context=base=docker-image://{base}",
            "--build-arg=VERSION=1.2.3", f"--file={file}",
            f"--tag={tag}", ".",
        )  # fmt: skip
        container = self.buildah("from", tag)
        described = json.loads(self.buildah("inspect", "--type=image", tag))
        return Image(Path(self.buildah("mount", container)), described["Docker"]["config"])

    def close(self) -> None:
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")


class Image:
    """A built and unpacked image."""

    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self.root = root
        self.config = config


class Container(Running):
    """The process of an image with strict settings.

    Read-only root file system, no capabilities, no new privileges; the network of this machine.
    """

    def __init__(self, image: Image, directory: Path, environment: Mapping[str, object]) -> None:
        self._image = image
        self._directory = directory
        self._name = f"pg-status-test-{os.getpid()}"
        self._environment = [
            *image.config["Env"],
            *(f"{name}={value}" for name, value in environment.items()),
        ]
        self._log = directory / "log"

    def launch(self) -> None:
        self._crun("spec")
        file = self._directory / "config.json"
        spec = json.loads(file.read_text())
        uid, gid = self._image.config["User"].split(":")
        spec["process"] = {
            "user": {"uid": int(uid), "gid": int(gid)},
            "args": self._image.config["Entrypoint"],
            "env": self._environment,
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {},
        }
        spec["root"] = {"path": str(self._image.root), "readonly": True}
        namespaces = spec["linux"]["namespaces"]
        namespaces[:] = [entry for entry in namespaces if entry["type"] != "network"]
        mounts = spec["mounts"]
        mounts[:] = [entry for entry in mounts if not entry["destination"].startswith("/sys")]
        file.write_text(json.dumps(spec))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command("run", self._name), cwd=self._directory, stdout=log, stderr=log
            )

    def end(self) -> None:
        if self.process.poll() is None:
            self._crun("kill", self._name, "KILL")
            self.process.wait(10)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def pids(self) -> list[int]:
        """The process IDs on this machine, the first process first."""
        state = json.loads(self._crun("state", self._name))
        first = int(state["pid"])
        return [first, *children_of(first)]

    def kill(self, signal: str) -> None:
        """Send a signal to the first process."""
        self._crun("kill", self._name, signal)

    def exec(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container as the user of the image."""
        return subprocess.run(
            self._command("exec", *(f"--env={entry}" for entry in self._environment),
                          self._name, *command),
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def _command(self, *arguments: str) -> list[str | Path]:
        return [
            "unshare", "--mount", "sh", "-c", _CGROUP2_ONLY, "crun",
            "--cgroup-manager=disabled", "--root", self._directory / "crun", *arguments,
        ]  # fmt: skip

    def _crun(self, *arguments: str) -> str:
        return subprocess.run(
            self._command(*arguments),
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
