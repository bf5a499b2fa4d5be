"""``pg-status demo`` and ``pg-status failover``: a cluster, a daemon that monitors it, a crash.

The process of the demo owns the PostgreSQL servers, the daemon and their directory. When it ends
(Ctrl-C, SIGTERM, a closed terminal) it stops and removes them.
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

from pgstatus.cli.layout import Source
from pgstatus.cli.remote import Instance
from pgstatus.cli.state import State, fetch
from pgstatus.cli.table import Screen
from pgstatus.cli.terminal import plain
from pgstatus.demo.binaries import bundled
from pgstatus.demo.cluster import PASSWORD, Cluster
from pgstatus.demo.network import Network, free_port
from pgstatus.errors import StartError, UnreachableError

DEFAULT_PORT = 8000
"""The HTTP port, also in README.md and of the example service."""

_HTTP_HOST = "127.0.0.1"
_WRITE_EVERY = 0.2
_SHOW_EVERY = 0.5


def run_demo(bindir: str | None, version: str, port: int) -> int:
    """Run until stopped; returns the exit status. StartError: something is missing or in use."""
    stopping = threading.Event()
    failing_over = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        # A second Ctrl-C must not interrupt the cleanup.
        stopping.set()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    signal.signal(signal.SIGUSR1, lambda signum, frame: failing_over.set())

    with contextlib.ExitStack() as undo:
        state_file = undo.enter_context(_single_instance())
        _require_free(port)
        # They would apply to all connections of the demo.
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]
        network = Network()
        undo.callback(network.release)
        directory = Path(tempfile.mkdtemp(prefix="pg-status-demo-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        addresses = [network.address(last) for last in (2, 3, 4)]
        source = Path(bindir) if bindir else bundled(version)
        cluster = Cluster(source, directory, addresses, free_port(addresses, 5432))
        undo.callback(cluster.stop)
        _print(f"starting a primary and two replicas on {', '.join(addresses)}")
        cluster.start(stopping)
        if stopping.is_set():
            return 0
        url = f"http://{_HTTP_HOST}:{port}"
        daemon = _start_daemon(cluster, port)
        undo.callback(_end, daemon)
        _wait_until_ready(daemon, url)
        state_file.write(json.dumps({"pid": os.getpid(), "url": url}))
        state_file.flush()
        _print_instructions(url, port)
        _attend(cluster, daemon, url, stopping, failing_over)
        _print("stopping: the servers and their directory are removed")
    return 0


def fail_over() -> int:
    """Crash the primary of the running demo; returns when ``/master`` returns another host."""
    state = _running()
    if state is None:
        raise StartError(f"no demo is running: start one with `{_command()} demo`")
    url = str(state["url"])
    before = _get(f"{url}/master")
    began = time.monotonic()
    _print(f"before: {url}/master returns {before}")
    os.kill(int(state["pid"]), signal.SIGUSR1)
    while time.monotonic() - began < 30:
        after = _get(f"{url}/master")
        if after not in {"", before}:
            took = time.monotonic() - began
            _print(f"after:  {url}/master returns {after}, {took:.2f} s after the crash")
            return 0
        time.sleep(0.01)
    raise StartError(f"{url}/master still returns {before!r} after 30 s; see the demo's terminal")


def _start_daemon(cluster: Cluster, port: int) -> subprocess.Popen[bytes]:
    others = [name for name in os.environ if name.lower().startswith("pg_status__")]
    if others:
        _print(f"ignored by the demo: {', '.join(others)}")
    environment = {k: v for k, v in os.environ.items() if k not in others}
    environment |= {
        "pg_status__hosts": ",".join(server.address for server in cluster.servers),
        "pg_status__pg_port": str(cluster.primary.port),
        "pg_status__http_listen_address": _HTTP_HOST,
        "pg_status__http_port": str(port),
        "pg_status__pg_user": "postgres",
        "pg_status__pg_password": PASSWORD,
        "pg_status__pg_database": "postgres",
        # The package of the .deb is not on the default path.
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
            raise StartError("the daemon did not start; its messages are above")
        time.sleep(0.05)


def _print_instructions(url: str, port: int) -> None:
    command = _command()
    _print(
        f"""ready. In another terminal:

    curl {url}/master                    # the master
    curl {url}/replica                   # a replica, in turn
    curl {url}/sync_by_time              # a replica that is at most one second behind
    curl -H 'Accept: application/json' '{url}/replica?lag_ms=50'
    curl {url}/hosts                     # the state of all hosts
    {command} hosts --watch --url {url}     # the same as a table
    {url}/                               # the same in a browser
    {command} failover                   # crash the primary, promote a replica
{_example(url, port)}
Ctrl-C stops the demo and removes everything.
"""
    )


def _example(url: str, port: int) -> str:
    """The web service that uses pg-status, which only a checkout contains."""
    if not Path("examples/fastapi/app.py").exists():
        return ""
    command = "make example" if port == DEFAULT_PORT else f"PG_STATUS_URL={url} make example"
    return f"    {command}                         # a web service that uses pg-status\n"


def _require_free(port: int) -> None:
    try:
        free = free_port([_HTTP_HOST], port)
    except StartError:  # none of the higher ones is free
        free = free_port([_HTTP_HOST], DEFAULT_PORT)
    if free != port:
        raise StartError(
            f"port {port} of {_HTTP_HOST} is in use; choose another one: "
            f"{_command()} demo --port {free}"
        )


def _command() -> str:
    """The command as the user can enter it."""
    beside = Path(sys.executable).with_name("pg-status")
    on_the_path = shutil.which("pg-status")
    if not beside.exists() or (on_the_path and beside.samefile(on_the_path)):
        return "pg-status"
    return os.path.relpath(beside)


def _attend(
    cluster: Cluster,
    daemon: subprocess.Popen[bytes],
    url: str,
    stopping: threading.Event,
    failing_over: threading.Event,
) -> None:
    shown: object = None
    next_table = 0.0
    while not stopping.wait(_WRITE_EVERY):
        if daemon.poll() is not None:
            raise StartError(f"the daemon ended with status {daemon.returncode}")
        if failing_over.is_set():
            failing_over.clear()
            _fail_over(cluster)
        _write(cluster)
        if time.monotonic() >= next_table:
            next_table = time.monotonic() + _SHOW_EVERY
            shown = _show(url, shown)


def _fail_over(cluster: Cluster) -> None:
    _print(f"{cluster.primary.address} crashes")
    lost = cluster.fail_over()
    _print(f"{cluster.primary.address} is promoted; {lost.address} is rebuilt as its replica")
    cluster.rebuild(lost)
    _print(f"{lost.address} is running again")


def _write(cluster: Cluster) -> None:
    """A small transaction, so that WAL positions change."""
    with contextlib.suppress(psycopg.OperationalError):
        cluster.primary.sql("SELECT pg_logical_emit_message(true, 'pg-status', 'demo')")


def _show(url: str, shown: object) -> object:
    """Print the table if a role, the health or the sync state of a host has changed."""
    try:
        state = fetch(Instance(url))
    except (UnreachableError, StartError):
        return shown
    if not isinstance(state, State):
        return shown
    relevant = [
        [host[key] for key in ("role", "master", "alive", "possible_dead", "sync_by_time")]
        for host in state.hosts
    ]
    if relevant != shown:
        _print(f"\n{plain(Screen(state, Source(url)))}")
    return relevant


def _get(url: str) -> str:
    """The body of the response; empty if there is no successful response."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  # our own URL
            return str(response.read().decode())
    except OSError:
        return ""


def _state_path() -> Path:
    return Path(tempfile.gettempdir()) / f"pg-status-demo-{os.getuid()}.json"


@contextlib.contextmanager
def _single_instance() -> Iterator[IO[str]]:
    """The file that describes the running demo; it is locked as long as the demo runs."""
    path = _state_path()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            state = _running()
            where = f": process {state['pid']}, {state['url']}" if state else ""
            raise StartError(f"a demo is already running{where}") from None
        file.truncate()
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def _running() -> Mapping[str, Any] | None:
    """The content of the file of the running demo; None if no demo is running."""
    try:
        with _state_path().open() as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            state: Mapping[str, Any] = json.load(file)
            # Without a lock the demo was killed, and its process ID may belong to another process.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
    except (OSError, ValueError):
        return None
    return state


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
