"""The daemon with a defect in its monitor, which begins when a file appears."""

import sys
from pathlib import Path

_PROGRAM = """
import pathlib, sys, threading, time
from pgstatus.monitor import monitor
from pgstatus.cli.main import main
good = monitor.view
def view(*arguments):
    if pathlib.Path(sys.argv[1]).exists() and threading.current_thread().name == "monitor":
        {defect}
    return good(*arguments)
monitor.view = view
sys.exit(main([]))
"""


def with_defect(defect: str, trigger: Path) -> list[str]:
    """The command to start; ``defect`` is a statement, run in the monitoring thread."""
    return [sys.executable, "-c", _PROGRAM.format(defect=defect), str(trigger)]
