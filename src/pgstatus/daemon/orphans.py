"""Collects the exit status of orphaned processes, if this is the first process of a container.

The kernel makes the first process the parent of every orphan; a process that ends stays in the
process table until its parent collects its exit status.
"""

import contextlib
import os
from pathlib import Path


class Orphans:
    """`collect` is to be called about once a second."""

    def __init__(self) -> None:
        self._ended: set[int] = set()

    def collect(self) -> None:
        """Collect what had ended at the previous call already.

        The exit status of a command that this process has started is collected by the thread that
        waits for it, within milliseconds.
        """
        ended = {pid for pid in _children() if _has_ended(pid)}
        for pid in ended & self._ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._ended = ended


def _children() -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children


def _has_ended(pid: int) -> bool:
    try:
        # "PID (NAME) STATE …", where the name may contain anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
