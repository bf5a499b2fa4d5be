"""Whatever a configured path leads to, `load` returns at once, with a report of the problem."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgstatus.settings.files import MAX_SIZE, read_file
from pgstatus.settings.secrets import read_secret
from tests.support.certificates import Certificates
from tests.support.configuration import Loader, own, unprivileged

# Variables that name a file to be read, and those that libpq has.
FILES = [
    "pg_status__env_file", "pg_status__pg_password_file", "pg_status__http_token_file",
    "pg_status__http_tls_cert", "pg_status__http_tls_key", "pg_status__http_tls_client_ca",
    "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSERVICEFILE", "PGPASSFILE",
]  # fmt: skip
OUTPUTS = ["pg_status__state_file", "pg_status__on_change"]


def fifo(directory: Path) -> Path:
    path = directory / "fifo"
    os.mkfifo(path)
    return path


def loop(directory: Path) -> Path:
    path = directory / "loop"
    path.symlink_to(path)
    return path


def huge(directory: Path) -> Path:
    path = directory / "huge"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    return path


def zeros(directory: Path) -> Path:
    return Path("/dev/zero")


def a_directory(directory: Path) -> Path:
    path = directory / "directory"
    path.mkdir()
    return path


def below_a_file(directory: Path) -> Path:
    (directory / "file").touch()
    return directory / "file/below"


def too_long(directory: Path) -> Path:
    return directory / ("x" * 300)


def missing(directory: Path) -> Path:
    return directory / "no/such/file"


def unreadable_directory(directory: Path) -> Path:
    closed = directory / "closed"
    (closed / "inside").mkdir(parents=True)
    (closed / "inside/file").write_text("x" * 20)
    closed.chmod(0)
    return closed / "inside/file"


def unreadable_file(directory: Path) -> Path:
    path = directory / "secret"
    path.write_text("x" * 20)
    path.chmod(0)
    return path


OBSTACLES = [
    fifo, loop, huge, zeros, a_directory, below_a_file, too_long, missing, unreadable_directory,
    unreadable_file,
]  # fmt: skip


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Unlike pytest's own, below no directory that only its owner can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Every variable of `FILES` that others require, with usable files."""
    certificates = Certificates(tmp_path, "127.0.0.1")
    certificates.key.chmod(0o644)  # for the unprivileged user
    (tmp_path / "service.conf").write_text("[s]\nuser=x\n")
    client, client_key = certificates.client()
    client_key.chmod(0o600)
    own(client_key)
    return {
        "pg_status__http_tls_cert": str(certificates.cert),
        "pg_status__http_tls_key": str(certificates.key),
        "PGSSLCERT": str(client),
        "PGSSLKEY": str(client_key),
        "PGSERVICE": "s",
        "PGSERVICEFILE": str(tmp_path / "service.conf"),
    }


def within(seconds: float, call: Callable[[], str]) -> str:
    """The result of the call. A call that blocks must not block the test run."""
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, "it blocks, or raised an exception that is not a ConfigError"
    return results[0]


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", FILES)
def test_a_path_that_is_no_usable_file_is_a_problem(
    tmp_path: Path, environ: dict[str, str], name: str, obstacle: Callable[[Path], Path]
) -> None:
    path = obstacle(tmp_path)
    loader = Loader(tmp_path / "home")
    loader(environ)  # imports everything while all files are readable

    def attempt() -> str:
        text = loader.problems({**environ, name: str(path)})
        if not text and name in {"PGPASSFILE", "pg_status__pg_password_file"}:
            text = "\n".join(loader({**environ, name: str(path)}).warnings)
        return text

    with unprivileged():
        text = within(10, attempt)
    assert str(path) in text


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_path_that_cannot_be_written_or_executed_is_a_problem(
    tmp_path: Path, name: str, obstacle: Callable[[Path], Path]
) -> None:
    """The state file and the command are not read."""
    path = obstacle(tmp_path)
    loader = Loader(tmp_path / "home")
    loader()
    with unprivileged():
        text = within(10, lambda: loader.problems({name: str(path)}))
    if name == "pg_status__state_file" and obstacle in {huge, unreadable_file}:
        assert text == ""  # outputs/state_file.py ignores what it cannot use
    else:
        assert name in text


def test_a_reload_with_a_state_file_in_an_unreadable_directory_is_refused(tmp_path: Path) -> None:
    path = unreadable_directory(tmp_path).parent / "below/state.json"
    loader = Loader(tmp_path)
    loader()
    with unprivileged():
        assert "Permission denied" in loader.problems(state_file=path)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """A file in /proc has no size."""
    with pytest.raises(OSError, match="larger than 1 KiB"):
        read_file(Path("/proc/self/smaps"), 1024)


def test_the_largest_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x" * MAX_SIZE)
    assert len(read_secret(file)) == MAX_SIZE
    file.write_text("x" * (MAX_SIZE + 1))
    with pytest.raises(OSError, match="larger than 1024 KiB"):
        read_secret(file)


@pytest.mark.parametrize(
    "name", ["pg_password_file", "http_token_file", "http_tls_key", "env_file"]
)
def test_a_secret_that_every_user_can_read_is_a_warning(tmp_path: Path, name: str) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1")
    files = {
        "pg_password_file": tmp_path / "password", "http_token_file": tmp_path / "token",
        "http_tls_key": certificates.key, "env_file": tmp_path / "env",
    }  # fmt: skip
    files["pg_password_file"].write_text("x")
    files["http_token_file"].write_text("x" * 20)
    files["env_file"].write_text("pg_status__pg_password=x\n")
    for file in files.values():
        file.chmod(0o640)
    loader = Loader(tmp_path / "home")
    variables = {**files, "http_tls_cert": certificates.cert}
    assert loader(**variables).warnings == ()
    files[name].chmod(0o644)
    (warning,) = loader(**variables).warnings
    assert f"pg_status__{name}" in warning
    assert str(files[name]) in warning


def test_the_key_of_a_client_certificate_that_every_user_can_read_is_a_warning(
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1")
    certificates.key.chmod(0o644)
    files = {"upstreams_tls_cert": certificates.cert, "upstreams_tls_key": certificates.key}
    found = Loader(tmp_path / "home")(hosts="", upstreams="https://w1", **files)
    (warning,) = found.warnings
    assert "pg_status__upstreams_tls_key" in warning


@pytest.mark.parametrize(
    "line",
    [
        "pg_status__hosts=postgresql://me:s3cret@pg1:5432/db",
        "pg_status__nats=nats://me:s3cret@n1",
        "pg_status__nats=nats://t0ken@n1",
        "pg_status__orders__hosts=postgresql://me:s3cret@pg1:5432/db",
        "pg_status__orders__pg_password=s3cret",
        "pg_status__orders__nats=nats://me:s3cret@n1",
        "PGPASSWORD=s3cret",
    ],
)
def test_passwords_in_an_env_file_are_recognised(tmp_path: Path, line: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"pg_status__clusters=orders\npg_status__orders__hosts=pg1\n{line}\n")
    file.chmod(0o644)
    warnings = Loader(tmp_path)(env_file=file).warnings
    assert any("pg_status__env_file" in warning for warning in warnings)


def test_an_env_file_without_passwords_may_be_readable(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("pg_status__hosts=postgresql://me@pg1:5432/db\n")
    file.chmod(0o644)
    assert Loader(tmp_path)(env_file=file).warnings == ()
