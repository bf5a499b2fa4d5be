"""The same daemon, with gunicorn's own thread worker in the place of ours."""

import sys

from gunicorn.workers.gthread import ThreadWorker

from pgstatus import server
from pgstatus.cli import main

if __name__ == "__main__":
    server._OPTIONS.update(worker_class=ThreadWorker, threads=4)
    sys.exit(main([]))
