"""A thread that hangs ends the process; a process that was paused is not a hang."""

import os
import signal
import time
from pathlib import Path

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory, Daemons
from tests.support.defects import with_defect
from tests.support.running import answers
from tests.support.waiting import wait_until


def test_a_monitoring_thread_that_hangs_ends_the_process(
    daemons: Daemons, cluster: Cluster, tmp_path: Path
) -> None:
    daemon = daemons.prepare(cluster)
    trigger = tmp_path / "defect"
    daemon.command = with_defect("time.sleep(3600)", trigger)
    with daemon.launched():
        wait_until("it is ready", daemon.is_ready)
        trigger.touch()
        assert daemon.process.wait(30) == os.EX_SOFTWARE
    assert "the monitoring thread hangs" in daemon.log
    # The stack shows where it hangs.
    assert "pgstatus/monitor/monitor.py" in daemon.log


def test_a_pause_does_not_end_the_process(cluster: Cluster, make_daemon: DaemonFactory) -> None:
    """Longer than the watchdog waits for a thread that hangs."""
    daemon = make_daemon(cluster)
    os.kill(daemon.pid, signal.SIGSTOP)
    time.sleep(16)
    os.kill(daemon.pid, signal.SIGCONT)
    wait_until("it responds again", lambda: answers(daemon.client, "/master"))
    paused_until = time.monotonic()
    wait_until("the watchdog has looked again", lambda: time.monotonic() > paused_until + 2.5)
    assert daemon.process.poll() is None
    assert daemon.text("/master") == cluster.primary.address
