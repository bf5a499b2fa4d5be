"""CPU time and memory of a process and all its descendants, as reported by the kernel."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def cpu_seconds(pids: list[int]) -> float:
    """CPU time used by all their threads so far, also by those that have ended.

    The kernel derives it from the run time that the scheduler has measured, in units of 10 ms.
    """
    total = 0
    for pid in pids:
        # "PID (NAME) STATE …": utime and stime are the fields 14 and 15. Source: proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def pss_mib(pids: list[int]) -> float:
    """Proportional set size: memory that they share with each other is counted once."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def pin(core: int) -> None:
    """Restrict the calling process, and processes that it starts later, to one core."""
    os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def a_tenth_of_a_core(pids: list[int]) -> Iterator[str]:
    """Limit the processes to 10 ms in each 100 ms, like ``docker run --cpus 0.1``.

    Yields the name of the mechanism.
    """
    name = f"pg-status-bench-{os.getpid()}"
    for parent, setting, value in (
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "10000"),
        ("/sys/fs/cgroup", "cpu.max", "10000 100000"),
    ):
        group = Path(parent, name)
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / setting).write_text(value)
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
            yield "a control group"
        finally:
            for pid in pids:
                (group.parent / "cgroup.procs").write_text(str(pid))
            group.rmdir()
        return
    limiters = [subprocess.Popen(["cpulimit", "-q", "-l", "10", "-p", str(pid)]) for pid in pids]
    try:
        yield "cpulimit"
    finally:
        for limiter in limiters:
            limiter.terminate()
            limiter.wait()
