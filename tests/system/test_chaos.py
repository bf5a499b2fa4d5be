"""The failure campaign as a process."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from pgstatus.demo.network import Network
from tests.support.clusters import POSTGRES, programs
from tests.support.running import Program
from tests.support.waiting import wait_until


class Campaign(Program):
    patience = 30.0

    def answers(self) -> bool:
        return "start the pg-status at" in self.log


def processes(directory: str) -> list[str]:
    """The command lines of processes that use the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if directory in command:
            found.append(command)
    return found


def test_sigterm_stops_all_servers(tmp_path: Path, network: Network) -> None:
    """While it waits for the other pg-status to be started."""
    directory = Path(tempfile.mkdtemp(prefix="pg-status-test-"))
    directory.chmod(0o755)
    command = [
        sys.executable, "-m", "tests.chaos",
        "--url", f"http://{network.address(1)}:1",
        "--bindir", str(programs(POSTGRES[-1])),
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(directory)}
    with Campaign(command, tmp_path / "log", environment) as campaign:
        assert len(processes(str(directory))) >= 3
        campaign.process.send_signal(signal.SIGTERM)
        assert campaign.process.wait(30) == 128 + signal.SIGTERM
    wait_until("no server is left", lambda: not processes(str(directory)))
    assert [str(path) for path in directory.rglob("*")] == []
    directory.rmdir()
