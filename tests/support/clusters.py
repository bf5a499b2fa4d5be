"""Real PostgreSQL clusters for the tests."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from pgstatus.demo.binaries import Binaries, bundled
from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network, free_port

# A data directory has about a thousand files: in memory, a copy of them takes a tenth of the time.
_MEMORY = Path("/dev/shm")
_ENOUGH = 4 * 2**30
"""Bytes that are free there."""
POSTGRES = os.environ.get("PGSTATUS_TEST_POSTGRES", "16,18").split(",")


def _new_directory() -> Path:
    """Of the size of several data directories."""
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH
    return Path(tempfile.mkdtemp(prefix="pg-status-test-", dir=_MEMORY if in_memory else None))


def programs(postgres: str) -> Path:
    """The directory of the programs of an item of `POSTGRES`."""
    return Path(postgres) if postgres.startswith("/") else bundled(postgres)


class Templates:
    """One initialized data directory for each PostgreSQL, which all clusters are copied from."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._undo = ExitStack()
        self._found: dict[str, tuple[Path, Path]] = {}

    def of(self, postgres: str) -> tuple[Path, Path]:
        """The programs of a PostgreSQL, accessible to its account, and its data directory."""
        if postgres not in self._found:
            directory = self._directory()
            binaries = Binaries.prepare(programs(postgres), directory)
            server = Server(binaries, directory / "data", self._network.address(250), 5432)
            server.initialize()
            self._found[postgres] = binaries.bindir, server.data
        return self._found[postgres]

    def _directory(self) -> Path:
        directory = _new_directory()
        self._undo.callback(shutil.rmtree, directory, ignore_errors=True)
        return directory

    def close(self) -> None:
        self._undo.close()


class Clusters:
    """Creates clusters on unused addresses, and removes all of them at the end."""

    def __init__(
        self, network: Network, templates: Templates | None = None, *, first: int = 10
    ) -> None:
        """``first``: the last part of the first address."""
        self._undo = ExitStack()
        if templates is None:
            templates = Templates(network)
            self._undo.callback(templates.close)
        self._network = network
        self._templates = templates
        self._next = first

    def make(
        self, postgres: str = POSTGRES[-1], replicas: int = 2, *, own_identifier: bool = False
    ) -> Cluster:
        """A running cluster.

        All clusters of a test run have the same system identifier, unless ``own_identifier`` is
        set, which takes longer.
        """
        addresses = []
        for _ in range(1 + replicas):
            addresses.append(self._network.address(self._next))
            self._next += 1
        directory = _new_directory()
        self._undo.callback(shutil.rmtree, directory, ignore_errors=True)
        bindir, template = self._templates.of(postgres)
        cluster = Cluster(
            bindir,
            directory,
            addresses,
            free_port(addresses, 5432),
            None if own_identifier else template,
        )
        self._undo.callback(cluster.stop)
        cluster.start()
        return cluster

    def close(self) -> None:
        self._undo.close()
