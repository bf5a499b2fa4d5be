"""``pg-status demo`` and ``pg-status failover``: a cluster, the daemon that watches it, a crash.

The demo's process owns everything: the PostgreSQL servers, the daemon, the directory. However it
is ended (Ctrl-C, SIGTERM, a closed terminal), it takes them along.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

import psycopg

from pgstatus.cli.show import hosts_table
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network, free_port
from pgstatus.errors import StartError

_HTTP_HOST = "127.0.0.1"
_WRITE_EVERY = 0.2
_SHOW_EVERY = 0.5


def run_demo(bindir: str | None, version: str, port: int) -> int:
    """Run until stopped; returns the exit status. StartError says what is missing."""
    stopping = threading.Event()
    failing_over = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        # A second Ctrl-C must not interrupt the cleaning up.
        stopping.set()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    signal.signal(signal.SIGUSR1, lambda signum, frame: failing_over.set())

    with contextlib.ExitStack() as undo:
        state_file = undo.enter_context(_only_one())
        network = Network()
        undo.callback(network.release)
        directory = Path(tempfile.mkdtemp(prefix="pg-status-demo-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        addresses = [network.address(last) for last in (2, 3, 4)]
        source = Path(bindir) if bindir else bundled(version)
        cluster = Cluster(source, directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        _say(f"starting a primary and two replicas on {', '.join(addresses)} …")
        cluster.start(stopping)
        if stopping.is_set():
            return 0
        port = free_port([_HTTP_HOST], port)
        url = f"http://{_HTTP_HOST}:{port}"
        daemon = _start_daemon(cluster, port)
        undo.callback(_end, daemon)
        _wait_until_ready(daemon, url)
        state_file.write(json.dumps({"pid": os.getpid(), "url": url}))
        state_file.flush()
        _explain(url)
        _watch(cluster, daemon, url, stopping, failing_over)
        _say("stopping: the servers and their directory go away")
    return 0


def fail_over() -> int:
    """Have the running demo crash its primary; returns when ``/master`` names another host."""
    state = _running()
    if state is None:
        raise StartError("no demo is running: start one with `make run` (or `pg-status demo`)")
    url = str(state["url"])
    before = _get(f"{url}/master")
    began = time.monotonic()
    _say(f"before: {url}/master says {before}")
    os.kill(int(state["pid"]), signal.SIGUSR1)
    while time.monotonic() - began < 30:
        after = _get(f"{url}/master")
        if after not in {"", before}:
            took = time.monotonic() - began
            _say(f"after:  {url}/master says {after}, {took:.2f} s after the crash")
            return 0
        time.sleep(0.01)
    raise StartError(f"{url}/master still says {before!r} after 30 s; see the demo's terminal")


def _start_daemon(cluster: Cluster, port: int) -> subprocess.Popen[bytes]:
    others = [name for name in os.environ if name.lower().startswith("pg_status__")]
    if others:
        _say(f"not for the demo: {', '.join(others)}. Hosts of your own are pg_status__hosts.")
    environment = {k: v for k, v in os.environ.items() if k not in others}
    environment |= {
        "pg_status__hosts": ",".join(server.address for server in cluster.servers),
        "pg_status__pg_port": str(cluster.primary.port),
        "pg_status__http_listen_address": _HTTP_HOST,
        "pg_status__http_port": str(port),
        "pg_status__sleep_ms": "1000",
        # Where this package is, however it was found: the .deb's is on nobody's path.
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pgstatus"], env=environment, start_new_session=True
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(daemon: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 15
    while _get(f"{url}/ready") != "OK":
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise StartError("the daemon did not start; its own words are above")
        time.sleep(0.05)


def _explain(url: str) -> None:
    _say(
        f"""ready. In another terminal:

    curl {url}/master                    # who is the master
    curl {url}/replica                   # a replica, another at each call
    curl {url}/sync_by_time              # a replica that is at most a second behind
    curl -H 'Accept: application/json' '{url}/replica?lag_ms=50'
    curl {url}/hosts                     # all that is known
    {_command()} hosts --url {url}       # the same as a table
    {url}/                               # the same in a browser
    make failover                        # the primary crashes, a replica is promoted

Ctrl-C ends it and leaves nothing behind.
"""
    )


def _command() -> str:
    """How the one who reads this calls pg-status."""
    beside = Path(sys.executable).with_name("pg-status")
    return os.path.relpath(beside) if beside.exists() else "pg-status"


def _watch(
    cluster: Cluster,
    daemon: subprocess.Popen[bytes],
    url: str,
    stopping: threading.Event,
    failing_over: threading.Event,
) -> None:
    shown: object = None
    next_look = 0.0
    while not stopping.wait(_WRITE_EVERY):
        if daemon.poll() is not None:
            raise StartError(f"the daemon ended with status {daemon.returncode}")
        if failing_over.is_set():
            failing_over.clear()
            _fail_over(cluster)
        _write(cluster)
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _SHOW_EVERY
            shown = _show(url, shown)


def _fail_over(cluster: Cluster) -> None:
    _say(f"{cluster.primary.address} crashes …")
    lost = cluster.fail_over()
    _say(f"{cluster.primary.address} is promoted; {lost.address} comes back as its replica …")
    cluster.rebuild(lost)
    _say(f"{lost.address} is back")


def _write(cluster: Cluster) -> None:
    """A little traffic, so that positions move."""
    with contextlib.suppress(psycopg.OperationalError):
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'pg-status', 'demo')")


def _show(url: str, shown: object) -> object:
    """Print the table where a role, a health or a verdict changed."""
    text = _get(f"{url}/hosts")
    if not text:
        return shown
    hosts = json.loads(text)
    telling = [
        [host[key] for key in ("role", "master", "alive", "possible_dead", "sync_by_time")]
        for host in hosts
    ]
    if telling != shown:
        _say(f"\n{hosts_table(hosts)}")
    return telling


def _get(url: str) -> str:
    """The answer's text; empty where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  # our own URL
            return str(response.read().decode())
    except OSError:
        return ""


def _state_path() -> Path:
    return Path(tempfile.gettempdir()) / f"pg-status-demo-{os.getuid()}.json"


@contextlib.contextmanager
def _only_one() -> Iterator[IO[str]]:
    """The file in which the running demo says who it is; locked as long as it runs."""
    path = _state_path()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            state = _running()
            where = f": process {state['pid']}, {state['url']}" if state else ", about to start"
            raise StartError(f"a demo is already running{where}") from None
        file.truncate()
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def _running() -> Mapping[str, Any] | None:
    """What the running demo says of itself; None where none is running."""
    try:
        with _state_path().open() as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            state: Mapping[str, Any] = json.load(file)
            # Nobody holds the lock: it was killed, and its process number may be another's.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
    except (OSError, ValueError):
        return None
    return state


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
