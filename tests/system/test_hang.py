"""A monitor that hangs does not hang for long, whoever started the process."""

from pathlib import Path

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.defects import with_defect
from tests.support.waiting import wait_until


def test_a_hanging_monitor_ends_the_worker_and_another_one_goes_on(
    daemons: Daemons, cluster: Cluster, tmp_path: Path
) -> None:
    daemon = daemons.prepare(cluster)
    trigger = tmp_path / "defect"
    daemon.command = with_defect("time.sleep(3600)", trigger)
    with daemon:
        worker = daemon.worker_pid
        trigger.touch()
        wait_until("the worker ends", lambda: "Timeout" in daemon.log, 30)
        wait_until("the stack says where it hung", lambda: "pgstatus/monitor.py" in daemon.log)
        trigger.unlink()
        wait_until("the arbiter has seen it", lambda: f"(pid:{worker}) exited" in daemon.log)
        wait_until("another worker is ready", daemon.is_ready)
        assert daemon.worker_pid != worker
