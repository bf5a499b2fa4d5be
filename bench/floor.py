"""A lower bound of the memory: a process that has imported the libraries and does nothing else."""

import subprocess
import sys

from bench.processes import pss_mib, tree

_PROGRAM = """
import sys
import falcon, gunicorn.http.message, gunicorn.http.wsgi, gunicorn.workers.base, psycopg
print("ready", flush=True)
sys.stdin.read()
"""


def floor_mib() -> float:
    """PSS of a process that has imported gunicorn, falcon and psycopg."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        mib = pss_mib(tree(process.pid))
        process.stdin.close()
        return mib
