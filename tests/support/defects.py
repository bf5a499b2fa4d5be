"""The daemon with a defect in its monitor, which begins when a file appears."""

import sys
from pathlib import Path

_PROGRAM = """
import pathlib, sys, time
from pgstatus.monitor import monitor
from pgstatus.cli.main import main
good = monitor.fold
def fold(*arguments):
    if pathlib.Path(sys.argv[1]).exists():
        {defect}
    return good(*arguments)
monitor.fold = fold
sys.exit(main([]))
"""


def with_defect(defect: str, trigger: Path) -> list[str]:
    """The command to start; ``defect`` is a statement, run in the monitoring thread."""
    return [sys.executable, "-c", _PROGRAM.format(defect=defect), str(trigger)]
