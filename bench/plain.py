"""The same daemon with the thread worker of gunicorn instead of its own worker."""

import sys

from gunicorn.workers.gthread import ThreadWorker

from pgstatus.cli.main import main
from pgstatus.daemon import process as server

if __name__ == "__main__":
    server._OPTIONS.update(worker_class=ThreadWorker, threads=4)
    sys.exit(main([]))
