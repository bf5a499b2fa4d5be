"""The configuration of a real process: logins with the variables of libpq, and reloads."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Server
from tests.conftest import Clusters, DaemonFactory
from tests.support.waiting import wait_until

PASSWORD = "s3cret"
Environ = dict[str, str]


@pytest.fixture(scope="module")
def server(session_clusters: Clusters) -> Server:
    server = session_clusters.make(replicas=0).primary
    server.sql(f"CREATE ROLE watcher LOGIN PASSWORD '{PASSWORD}'")
    return server


def check(server: Server, home: Path, environ: Mapping[str, str]) -> str:
    """The output of ``pg-status check`` with this configuration."""
    done = subprocess.run(
        [sys.executable, "-m", "pgstatus", "check"],
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "pg_status__hosts": f"{server.address}:{server.port}",
            "pg_status__query_timeout_ms": "5000",
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert PASSWORD not in done.stdout + done.stderr
    return f"{done.returncode} {done.stdout}{done.stderr}"


def variables(directory: Path, server: Server) -> Environ:
    return {"PGUSER": "watcher", "PGPASSWORD": PASSWORD}


def env_file(directory: Path, server: Server) -> Environ:
    """The process environment, which libpq reads, says otherwise."""
    file = directory / "env"
    file.write_text(f"PGUSER=watcher\nPGPASSWORD={PASSWORD}\nPGSSLMODE=\n")
    return {
        "pg_status__env_file": str(file), "PGUSER": "other", "PGPASSWORD": "other",
        "PGSSLMODE": "require",
    }  # fmt: skip


def password_file_in_env_file(directory: Path, server: Server) -> Environ:
    password_file(directory / "pgpass", server)
    (directory / "env").write_text(f"PGPASSFILE={directory / 'pgpass'}\n")
    return {"pg_status__env_file": str(directory / "env"), "pg_status__pg_user": "watcher"}


def default_password_file(directory: Path, server: Server) -> Environ:
    password_file(directory / ".pgpass", server)
    return {"pg_status__pg_user": "watcher"}


def service(directory: Path, server: Server) -> Environ:
    service_file(directory)
    return {"PGSERVICE": "cluster"}


def service_of_a_uri(directory: Path, server: Server) -> Environ:
    service_file(directory)
    host = f"{server.address}:{server.port}"
    return {"pg_status__hosts": f"postgresql://{host}?service=cluster"}


def service_in_env_file(directory: Path, server: Server) -> Environ:
    service_file(directory)
    (directory / "env").write_text("PGSERVICE=cluster\n")
    return {"pg_status__env_file": str(directory / "env")}


def password_file(file: Path, server: Server) -> None:
    file.write_text(f"{server.address}:{server.port}:*:watcher:{PASSWORD}\n")
    file.chmod(0o600)


def service_file(directory: Path) -> None:
    (directory / ".pg_service.conf").write_text(
        f"[cluster]\nhost=nowhere.invalid\nuser=watcher\npassword={PASSWORD}\n"
    )


@pytest.mark.parametrize(
    "configure",
    [
        variables, env_file, password_file_in_env_file, default_password_file, service,
        service_of_a_uri, service_in_env_file,
    ],
)  # fmt: skip
def test_a_login_with_the_configuration_of_libpq(
    server: Server, tmp_path: Path, configure: Callable[[Path, Server], Environ]
) -> None:
    output = check(server, tmp_path, configure(tmp_path, server))
    assert output.startswith("0 "), output
    assert f"{server.address}:{server.port}" in output


@pytest.mark.parametrize("uri", ["", "postgresql://pg1?service=x"])
def test_a_service_file_that_would_block_libpq(server: Server, tmp_path: Path, uri: str) -> None:
    file = tmp_path / "services"
    os.mkfifo(file)
    environ = {"PGSERVICE": "x", "PGSERVICEFILE": str(file), "PGSSLMODE": "require"}
    if uri:
        environ["pg_status__hosts"] = uri
    output = check(server, tmp_path, environ)
    assert output.startswith("78 "), output
    assert f"{file}: not a regular file" in output


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.fixture(params=[fifo, loop, device, huge])
def obstacle(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    chosen: Callable[[Path], None] = request.param
    return chosen


def test_a_reload_of_an_unusable_file_is_refused(
    server: Server, make_daemon: DaemonFactory, tmp_path: Path, obstacle: Callable[[Path], None]
) -> None:
    file = tmp_path / "pg-status.env"
    file.write_text("pg_status__max_fails=3\n")
    daemon = make_daemon(hosts=f"{server.address}:{server.port}", env_file=file)
    file.unlink()
    obstacle(file)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("it is refused", lambda: "reload refused: pg_status__env_file" in daemon.log)
    assert daemon.text("/master") == server.address
    file.unlink()
    file.write_text("pg_status__max_fails=4\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until("it is applied", lambda: "reloaded" in daemon.log)
