"""Runs ``tests/network`` in a network namespace of its own, where packets may be dropped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clusters import POSTGRES

ROOT = Path(__file__).parents[2]
# A name server whose packets the tests can drop; nothing outside the namespace changes.
START = """
ip link set lo up
echo nameserver 127.98.0.1 > "$1/resolv.conf"
mount --bind "$1/resolv.conf" /etc/resolv.conf
exec "$2" -m pytest -q -p no:cacheprovider tests/network
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.skipif(
    not (shutil.which("nft") and shutil.which("ip") and shutil.which("unshare")),
    reason="nft, ip or unshare is missing (Debian: nftables, iproute2, util-linux)",
)
def test_in_a_namespace_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-euc", START, "sh", tmp_path, sys.executable],
        env={**os.environ, "PGSTATUS_IN_NAMESPACE": "1", "PGSTATUS_TEST_POSTGRES": POSTGRES[-1]},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
