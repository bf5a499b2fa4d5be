"""Reserved loopback networks."""

import os
import subprocess
import sys
from pathlib import Path

from pgstatus.demo.network import Network

PROGRAM = """
from pgstatus.demo.network import Network
print(Network().address(2))
"""


def test_processes_reserve_different_networks_whatever_their_temporary_directory(
    tmp_path: Path,
) -> None:
    network = Network()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() != network.address(2)
    finally:
        network.release()
