"""The daemon with a defect in its monitoring thread, which begins when a file appears."""

import sys
from pathlib import Path

_PROGRAM = """
import pathlib, sys, threading, time
from pgstatus.monitor.latest import Latest
from pgstatus.cli.main import main
good = Latest.publish
def publish(*arguments):
    if pathlib.Path(sys.argv[1]).exists() and threading.current_thread().name == "monitor":
        {defect}
    return good(*arguments)
Latest.publish = publish
sys.exit(main([]))
"""


def with_defect(defect: str, trigger: Path) -> list[str]:
    """The command to start; ``defect`` is a statement, run in the monitoring thread."""
    return [sys.executable, "-c", _PROGRAM.format(defect=defect), str(trigger)]
