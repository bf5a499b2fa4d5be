"""Rendered pods as real processes, treated as a kubelet and an endpoint controller treat them.

A container becomes a process with its variables, volumes and probes; its address is a loopback
address. The image and its user are tested in test_images.py.
"""

import itertools
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.packaging import chart
from tests.support.running import Program, answers

Manifest = dict[str, Any]
HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"


def rendered(values: Manifest, *, tests: bool = False) -> list[Manifest]:
    """The objects of a release "pg-status", with or without those of `helm test`."""
    texts = chart.render(chart.CHART, values, name="pg-status", namespace="databases")
    return [
        document
        for path, text in sorted(texts.items())
        if path.endswith(".yaml") and (tests or "/tests/" not in path)
        for document in yaml.safe_load_all(text)
        if document
    ]


def kinds(documents: Iterable[Manifest], kind: str) -> list[Manifest]:
    return [document for document in documents if document["kind"] == kind]


class Volumes:
    """The volumes of a pod. Their files are links into a directory that the kubelet replaces.

    Other than in a container, the directories do not have the paths that the variables and files
    contain; `located` adapts these.
    """

    def __init__(
        self,
        directory: Path,
        pod: Manifest,
        container: Manifest,
        config_maps: Iterable[Manifest] = (),
        secrets: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        self._config_maps = {one["metadata"]["name"]: one["data"] for one in config_maps}
        self._secrets = dict(secrets)
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        self._projected: dict[Path, Manifest] = {}
        self._mounts: dict[str, Path] = {}
        for mount in container.get("volumeMounts", ()):
            path = directory / mount["name"]
            path.mkdir()
            self._mounts[mount["mountPath"]] = path
            if "projected" in volumes[mount["name"]]:
                self._projected[path] = volumes[mount["name"]]["projected"]
        self._versions = itertools.count()
        self._write()

    def located(self, text: str) -> str:
        """The text with the directories of this machine instead of the mount paths."""
        for path, directory in self._mounts.items():
            text = re.sub(rf"(?<![\w/.-]){path}(?![\w.-])", str(directory), text)
        return text

    def replace_secret(self, name: str, content: Mapping[str, str]) -> None:
        self._secrets[name] = content
        self._write()

    def _write(self) -> None:
        for directory, volume in self._projected.items():
            version = directory / f"..version{next(self._versions)}"
            version.mkdir()
            for source in volume["sources"]:
                for path, content in self._files(source).items():
                    (version / path).parent.mkdir(parents=True, exist_ok=True)
                    (version / path).write_text(self.located(content))
                    (version / path).chmod(volume["defaultMode"])
            (directory / "..data_tmp").symlink_to(version.name)
            (directory / "..data_tmp").rename(directory / "..data")
            for entry in version.iterdir():
                if not (directory / entry.name).is_symlink():
                    (directory / entry.name).symlink_to(f"..data/{entry.name}")
            for link in directory.iterdir():
                if not link.exists():
                    link.unlink()

    def _files(self, source: Manifest) -> Mapping[str, str]:
        if "configMap" in source:
            return dict(self._config_maps[source["configMap"]["name"]])
        secret = source["secret"]
        if secret.get("optional") and secret["name"] not in self._secrets:
            return {}
        content = self._secrets[secret["name"]]
        if "items" not in secret:
            return content
        return {item["path"]: content[item["key"]] for item in secret["items"]}


class Pod(Program):
    """The container "pg-status" of a pod."""

    def __init__(
        self,
        directory: Path,
        address: str,
        pod: Manifest,
        config_maps: Iterable[Manifest] = (),
        secrets: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        containers = [*pod.get("initContainers", ()), *pod["containers"]]
        (self._container,) = [one for one in containers if one["name"] == "pg-status"]
        self._grace = pod["terminationGracePeriodSeconds"]
        directory.mkdir(parents=True)
        self.volumes = Volumes(directory, pod, self._container, config_maps, secrets)
        environment = {
            variable["name"]: self.volumes.located(variable["value"])
            for variable in self._container["env"]
        }
        # Every pod has an address of its own, and a loopback address of its own.
        environment["pg_status__http_listen_address"] = address
        self.address = address
        self.port = int(environment["pg_status__http_port"])
        self.url = f"http://{address}:{self.port}"
        self._client = httpx.Client(base_url=self.url, timeout=2)
        super().__init__([sys.executable, "-m", "pgstatus"], directory / "log", environment)

    def answers(self) -> bool:
        return self.succeeds("startupProbe") and self.succeeds("readinessProbe")

    def succeeds(self, probe: str) -> bool:
        """Also true without such a probe."""
        how = self._container.get(probe)
        if how is None:
            return True
        if "exec" in how:
            return self.execute(how["exec"]["command"]).returncode == 0
        assert how["httpGet"]["scheme"] == "HTTP"
        return answers(self._client, how["httpGet"]["path"])

    def execute(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """What `kubectl exec` does. The process is not the first one of a container."""
        program, *arguments = command
        assert program == "python3"
        arguments = [str(self.process.pid) if one == "1" else one for one in arguments]
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._client.get(path, headers=headers)

    def end(self) -> None:
        self._client.close()
        super().end()

    def terminate(self, service: "Service", *, pre_stop: bool = True) -> None:
        """The end of a pod, which is removed from the Service while its preStop action runs.

        Without such an action, it is removed as late, but SIGTERM is sent immediately.
        """
        seconds = self._container["lifecycle"]["preStop"]["sleep"]["seconds"]
        ends_at = time.monotonic() + self._grace
        if not pre_stop:
            self.process.terminate()
        time.sleep(seconds * 0.7)
        service.remove(self)
        time.sleep(seconds * 0.3)
        if pre_stop:
            self.process.terminate()
        self.process.wait(ends_at - time.monotonic())


class Service(Program):
    """A Service: new connections are distributed to the pods that are ready."""

    def __init__(self, directory: Path, address: str, port: int, pods: Iterable[Pod]) -> None:
        self._socket = directory / "service.sock"
        self._names = {pod: f"pod{number}" for number, pod in enumerate(pods)}
        servers = "\n".join(
            f"    server {name} {pod.address}:{pod.port}" for pod, name in self._names.items()
        )
        configuration = directory / "service.cfg"
        configuration.write_text(
            f"""global
    stats socket {self._socket} level admin
defaults
    mode tcp
    retries 0
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend service
    bind {address}:{port}
    default_backend pods
backend pods
    balance roundrobin
{servers}
"""
        )
        self.url = f"http://{address}:{port}"
        super().__init__([HAPROXY, "-f", configuration], directory / "service.log")

    def answers(self) -> bool:
        try:
            return bool(self._execute("show info"))
        except OSError:
            return False

    def add(self, pod: Pod) -> None:
        self._execute(f"set server pods/{self._names[pod]} state ready")

    def remove(self, pod: Pod) -> None:
        """Established connections are kept."""
        self._execute(f"set server pods/{self._names[pod]} state maint")

    def _execute(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile().read()
