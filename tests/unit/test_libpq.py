"""The library of libpq that psycopg uses."""

import subprocess
import sys

PROGRAM = """
from psycopg import pq
import psycopg2  # with another copy of libpq, which the kernel lists before
from pgstatus.monitor.libpq import connect_poll

conn = pq.PGconn.connect_start(b"host=127.0.0.1 port=1")
for _ in range(100):
    if connect_poll(conn) == pq.PollingStatus.FAILED:
        break
print(conn.error_message.decode())
"""


def test_beside_another_copy_of_the_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert "Connection refused" in done.stdout
