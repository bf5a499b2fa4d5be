"""The sizes and the memory in docs/install.md: ``python -m bench.footprint``.

Requires root, and the packages in dist/ (``make footprint`` builds them).
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.packaging.container import Image, Store
from tests.support.daemon import Daemon

from bench.hosts import daemon_of
from pgstatus import __version__
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/install.md"
_SUITE = "trixie"
_REQUESTS = 20_000
_PATHS = ("/master", "/replica?lag_ms=500", "/hosts", "/sync_by_bytes", "/metrics")
_BEGIN = "<!-- figures: written by `make footprint` -->\n"
_END = "<!-- end of figures -->\n"
_MB = 1_000_000


def package_sizes(arch: str) -> tuple[float, float]:
    """Megabytes of the Debian package: the file, installed."""
    file = ROOT / f"dist/pg-status_{__version__}_{arch}.deb"
    done = subprocess.run(
        ["dpkg-deb", "--field", file, "Installed-Size"], capture_output=True, text=True, check=True
    )
    return file.stat().st_size / _MB, int(done.stdout) * 1024 / _MB


@contextmanager
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        try:
            yield store.build("Dockerfile.ubuntu", store.import_base(_SUITE))
        finally:
            store.close()


def unpacked(directory: Path) -> float:
    """Megabytes of the files."""
    files = (path for path in directory.rglob("*") if not path.is_dir())
    return sum(path.lstat().st_size for path in files) / _MB


def memory(daemon: Daemon) -> tuple[float, float]:
    """MiB after requests: private, and file pages that other processes can share."""
    for number in range(_REQUESTS):
        daemon.client.get(_PATHS[number % len(_PATHS)])
    text = Path(f"/proc/{daemon.pid}/smaps_rollup").read_text()
    found = re.findall(r"^(Rss|Anonymous): +(\d+) kB", text, re.MULTILINE)
    sizes = {name: int(kib) / 1024 for name, kib in found}
    return sizes["Anonymous"], sizes["Rss"] - sizes["Anonymous"]


def table(own: float, files: float, built: Image) -> str:
    total, ours = unpacked(built.root), unpacked(built.root / "opt/pg-status")
    (amd64, installed), (arm64, installed_arm) = map(package_sizes, ("amd64", "arm64"))
    return f"""
{datetime.now(UTC):%Y-%m-%d}, version {__version__}, Python {sys.version.split()[0]}:

| what | size |
| --- | --- |
| Debian package, amd64 | {amd64:.1f} MB, installed {installed:.0f} MB |
| Debian package, arm64 | {arm64:.1f} MB, installed {installed_arm:.0f} MB |
| image of `Dockerfile.ubuntu` on a Debian 13 base, unpacked | {total:.0f} MB |
| … of that, pg-status and its libraries | {ours:.0f} MB |
| resident memory with three hosts, after {_REQUESTS:,} requests | {own + files:.0f} MiB |
| … of that, pages of files, shared with other processes that use them | {files:.0f} MiB |

"""


def main() -> None:
    network = Network()
    addresses = [network.address(last) for last in (2, 3, 4)]
    try:
        with tempfile.TemporaryDirectory(prefix="pg-status-bench-") as directory:
            Path(directory).chmod(0o755)
            cluster = Cluster(bundled("18"), Path(directory), addresses, free_port(addresses, 5432))
            try:
                cluster.start()
                with daemon_of(cluster, network, 0) as daemon:
                    resident = memory(daemon)
            finally:
                cluster.stop()
    finally:
        network.release()
    with image() as built:
        figures = table(*resident, built)
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}{figures}{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    main()
