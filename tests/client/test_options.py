"""What a client is created with: URLs, tokens, TLS; and that no credential appears in a message."""

import re
import socket
import ssl
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pgstatus.client import (
    Answer,
    AsyncPgStatusClient,
    DeadlineError,
    NotReadyError,
    PgStatusClient,
    RefusedError,
    UnreachableError,
)
from pgstatus.demo.cluster import Cluster
from tests.client.support import AskerFactory, Server
from tests.conftest import DaemonFactory, Daemons
from tests.support.certificates import Certificates
from tests.support.waiting import wait_until

TOKEN = "0123456789-secret-token"


@pytest.fixture
def certificates(tmp_path: Path, daemons: Daemons) -> Certificates:
    return Certificates(tmp_path, daemons.prepare().address)


def text_of(error: BaseException) -> str:
    """Everything that a log or an error report contains."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("client", [PgStatusClient, AsyncPgStatusClient])
@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000", "ftp://x", "", "http://", "http://:8000", "http://x:port", "http://x:99999",
        "unix:", "unix:relative", "unix://tmp/x", "unix://localhost/tmp/x", "http://x?lag_ms=1",
    ],
)  # fmt: skip
def test_an_invalid_url(client: Any, url: str) -> None:
    with pytest.raises(ValueError, match=r"expected http://host:port, https://host:port or unix:"):
        client(url)


def test_three_slashes_are_a_path(make_asker: AskerFactory, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = Server(listener)
    try:
        assert make_asker(f"unix://{path}")("replica").host == "pg2"
    finally:
        server.stop()


@pytest.mark.parametrize("client", [PgStatusClient, AsyncPgStatusClient])
@pytest.mark.parametrize(
    "url", ["http://me:s3cr3t@x:1", "ftp://me:s3cr3t@x", "me:s3cr3t@x", "unix://me:s3cr3t@x/y"]
)
def test_a_password_in_the_url_is_refused_and_not_shown(client: Any, url: str) -> None:
    with pytest.raises(ValueError, match=r"must not contain|invalid URL") as raised:
        client(url)
    assert "s3cr3t" not in text_of(raised.value)


@pytest.mark.parametrize("client", [PgStatusClient, AsyncPgStatusClient])
@pytest.mark.parametrize(
    "token", ["", "\n", "two words", f"{TOKEN}\r\nX: y", "schlüssel", "a\x00b"]
)
def test_an_invalid_token_is_not_shown(client: Any, token: str) -> None:
    with pytest.raises(ValueError, match="invalid token") as raised:
        client("http://127.0.0.1:1", token=token)
    message = re.sub(r'File ".*|client\(.*', "", text_of(raised.value))
    assert not token.strip() or token.strip() not in message


def test_a_token_with_white_space_around_it(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory, tmp_path: Path
) -> None:
    """As read from its file."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    url = make_daemon(cluster, http_token_file=file).url
    assert make_asker(url, token=file.read_text())("master").host == cluster.primary.address
    with pytest.raises(RefusedError) as raised:
        make_asker(url, token="another-secret-of-mine")("master")
    assert raised.value.status == 401
    assert "another-secret" not in text_of(raised.value).replace('token="another-secret', "")


def test_no_error_and_no_representation_contains_the_token(
    make_asker: AskerFactory, server: Server, unused: str
) -> None:
    for url in (server.url, unused, "http://a..b/"):
        server.answer = b"HTTP/1.1 200 OK\r\nBroken\r\n\r\n"
        ask = make_asker(url, token=TOKEN, deadline=5)
        with pytest.raises(UnreachableError) as raised:
            ask("master")
        assert TOKEN not in text_of(raised.value)
        assert TOKEN not in repr(ask.client) + repr(vars(ask.client))


class Encrypted:
    """Starts a pg-status with TLS, and stops it after the test."""

    def __init__(self, cluster: Cluster, daemons: Daemons, undo: ExitStack) -> None:
        self._cluster = cluster
        self._daemons = daemons
        self._undo = undo

    def start(
        self,
        certificates: Certificates,
        listen: str | None = None,
        server_name: str | None = None,
        **variables: object,
    ) -> str:
        """The URL under which it is asked."""
        daemon = self._daemons.prepare(self._cluster, **certificates.variables, **variables)
        if listen is not None:
            daemon.environment["pg_status__http_listen_address"] = listen
        self._undo.enter_context(daemon.launched())
        url = listen or daemon.url.replace("http:", "https:")

        def is_ready() -> bool:
            assert daemon.process.poll() is None, daemon.log
            if listen is not None and not Path(listen.removeprefix("unix:")).exists():
                return False
            with PgStatusClient(
                url, ssl_context=context, server_name=server_name, deadline=10.0
            ) as client:
                try:
                    return client.master().role == "master"
                except (UnreachableError, DeadlineError, NotReadyError):
                    return False

        context = certificates.context(certificates.client())
        wait_until(lambda: f"{url} responds\n{daemon.log}", is_ready)
        return url


@pytest.fixture
def encrypted(cluster: Cluster, daemons: Daemons) -> Iterator[Encrypted]:
    with ExitStack() as undo:
        yield Encrypted(cluster, daemons, undo)


def test_a_server_certificate(
    cluster: Cluster, encrypted: Encrypted, make_asker: AskerFactory, certificates: Certificates
) -> None:
    url = encrypted.start(certificates)
    for options in ({"ca": certificates.ca}, {"ssl_context": certificates.context()}):
        assert make_asker(url, **options)("master").host == cluster.primary.address
    for refused in ({}, {"ca": certificates.ca, "server_name": "pg-status.test"}):
        with pytest.raises(UnreachableError, match=r"(?i)certificate.verify"):
            make_asker(url, **refused)("master")


def test_the_name_in_the_server_certificate(
    cluster: Cluster, encrypted: Encrypted, make_asker: AskerFactory, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path, "pg-status.test")
    url = encrypted.start(certificates, server_name="pg-status.test")
    ask = make_asker(url, ca=certificates.ca, server_name="pg-status.test")
    assert ask("master").host == cluster.primary.address
    with pytest.raises(UnreachableError):
        make_asker(url, ca=certificates.ca)("master")


def test_a_client_certificate(
    cluster: Cluster, encrypted: Encrypted, make_asker: AskerFactory, certificates: Certificates
) -> None:
    url = encrypted.start(certificates, http_tls_client_ca=certificates.ca)
    cert, key = certificates.client()
    ask = make_asker(url, ca=certificates.ca, cert=cert, key=key)
    assert ask("master").host == cluster.primary.address
    both = tmp_file(cert, key)
    assert make_asker(url, ca=certificates.ca, cert=both)("replica").role == "replica"
    with pytest.raises((RefusedError, UnreachableError)):
        make_asker(url, ca=certificates.ca)("master")


def tmp_file(*parts: Path) -> Path:
    """One file with the content of several."""
    file = parts[0].with_name("both.pem")
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    return file


# The HTTP library leaves a Unix domain socket that it could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_unix_domain_socket(
    cluster: Cluster, encrypted: Encrypted, make_asker: AskerFactory, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path, "localhost")
    url = encrypted.start(certificates, f"unix:{tmp_path}/http.sock")
    for options in ({"ca": certificates.ca}, {"ssl_context": certificates.context()}):
        assert make_asker(url, **options)("master").host == cluster.primary.address
    with pytest.raises(UnreachableError):
        make_asker(url, ca=certificates.ca, server_name="pg-status.test")("master")


def test_notifications_with_the_same_options(
    cluster: Cluster, encrypted: Encrypted, make_asker: AskerFactory, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path, "pg-status.test")
    url = encrypted.start(
        certificates,
        f"unix:{tmp_path}/http.sock",
        "pg-status.test",
        http_tls_client_ca=certificates.ca,
    )
    cert, key = certificates.client()
    options = {"ca": certificates.ca, "server_name": "pg-status.test", "cert": cert, "key": key}
    states: list[Answer] = []
    ask = make_asker(url, **options)
    ask.on_change(states.append)
    ask.until("a notification", lambda: states)
    assert states[0].id
    assert states[0].hosts[0].host == cluster.primary.address


def test_notifications_with_a_token(
    cluster: Cluster, make_daemon: DaemonFactory, make_asker: AskerFactory, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    states: list[Answer] = []
    ask = make_asker(make_daemon(cluster, http_token_file=file).url, token=TOKEN)
    ask.on_change(states.append)
    ask.until("a notification", lambda: states)
    assert states[0].id


@pytest.mark.parametrize("client", [PgStatusClient, AsyncPgStatusClient])
def test_contradictory_options(client: Any, certificates: Certificates) -> None:
    cert, key = certificates.client()
    with pytest.raises(ValueError, match="TLS options require https"):
        client("http://127.0.0.1:1", ca=certificates.ca)
    with pytest.raises(ValueError, match="ssl_context excludes"):
        client("https://x", ssl_context=ssl.create_default_context(), cert=cert, key=key)
    with pytest.raises(ValueError, match="key requires cert"):
        client("https://x", key=key)
    with pytest.raises(OSError, match="No such file"):
        client("https://x", ca="/nowhere/ca.pem")


def test_a_key_with_a_password_is_not_asked_for(certificates: Certificates, tmp_path: Path) -> None:
    cert, key = certificates.client()
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", str(key)]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(ValueError, match="has a password"):
        PgStatusClient("https://x", cert=cert, key=locked)
