"""A lower bound of the memory: the libraries, imported by a process that forks once."""

import subprocess
import sys

from bench.processes import pss_mib, tree

_PROGRAM = """
import os, sys
import falcon, gunicorn.app.base, gunicorn.arbiter, gunicorn.workers.gthread, psycopg
os.fork()
print("ready", flush=True)
sys.stdin.read()
"""


def floor_mib() -> float:
    """PSS of two processes that have imported gunicorn, falcon and psycopg and do nothing else."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        for _ in range(2):
            process.stdout.readline()
        mib = pss_mib(tree(process.pid))
        process.stdin.close()
        return mib
