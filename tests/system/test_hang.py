"""A monitor that hangs does not hang for long, whoever started the process."""

import os
from pathlib import Path

from pgstatus.demo.cluster import PASSWORD, Cluster
from tests.conftest import DaemonFactory
from tests.support.waiting import wait_until


def test_a_hanging_monitor_ends_the_worker_and_another_one_goes_on(
    make_daemon: DaemonFactory, cluster: Cluster, tmp_path: Path
) -> None:
    """A pipe that nobody writes into is what a file on a dead network drive is."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    daemon = make_daemon(cluster, pg_password_file=file, conn_max_age_ms=0)
    worker = daemon.worker_pid
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.rename(file)
    wait_until("the worker ends", lambda: "Timeout" in daemon.log, 20)
    wait_until("the stack says where it hung", lambda: "pgstatus/probe.py" in daemon.log)
    good = tmp_path / "good"
    good.write_text(PASSWORD)
    good.rename(file)
    wait_until("the arbiter has seen it", lambda: f"(pid:{worker}) exited" in daemon.log)
    wait_until("another worker is ready", daemon.is_ready)
    assert daemon.worker_pid != worker
