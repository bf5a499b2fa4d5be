"""The rules under arbitrary sequences of events and checks; see `machine`.

A failure is printed as a program of rules. `__main__` describes how to run other sequences.
"""

import os
import subprocess
import sys


def test_no_answer_breaks_a_promise() -> None:
    """In a process of its own: hypothesis draws constants of all modules that are loaded, and the
    sequences would depend on the other tests of the run.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.model"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
