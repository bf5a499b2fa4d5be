"""What no program of this kind can be smaller than: its libraries, imported and forked once."""

import subprocess
import sys

from bench.processes import pss_mib, tree

_PROGRAM = """
import os, sys
import falcon, gunicorn.app.base, gunicorn.arbiter, gunicorn.workers.gthread, psycopg
os.fork()
print("here", flush=True)
sys.stdin.read()
"""


def floor_mib() -> float:
    """PSS of two processes that have gunicorn, falcon and psycopg, and do nothing with them."""
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
