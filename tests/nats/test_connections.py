"""TLS, credentials, and servers that reject them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgstatus import clock
from pgstatus.demo.network import Network
from tests.nats.conftest import FollowingFactory, WatcherFactory, wait_for_age
from tests.support.certificates import Certificates
from tests.support.nats import NatsCluster, NatsServer
from tests.support.nats_accounts import Accounts
from tests.support.waiting import wait_until

ServerFactory = Callable[..., NatsServer]


@pytest.fixture
def start_server(network: Network, tmp_path: Path) -> Iterator[ServerFactory]:
    """``start_server("lines of its configuration")``."""
    with ExitStack() as undo:
        yield lambda extra: undo.enter_context(
            NatsCluster(tmp_path, network, first=245, servers=1, extra=extra)
        ).servers[0]


def tls(certificates: Certificates, *, verify: bool = False) -> str:
    files = f"cert_file: '{certificates.cert}', key_file: '{certificates.key}'"
    return f"tls {{ {files}, ca_file: '{certificates.ca}', verify: {str(verify).lower()} }}"


@pytest.mark.parametrize(
    ("configuration", "login"),
    [
        ("authorization { user: watcher, password: 'p@ss:/%' }", "watcher:p%40ss%3A%2F%25@"),
        ("authorization { token: 's3cr3t' }", "s3cr3t@"),
    ],
)
def test_a_login_in_the_url(
    start_server: ServerFactory,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
    configuration: str,
    login: str,
) -> None:
    server = start_server(configuration)
    variables: dict[str, object] = {"nats": server.url.replace("//", f"//{login}")}
    watcher = start_watcher(variables)
    wait_for_age(follow(variables), "w1")
    assert "p@ss" not in watcher.log
    assert "s3cr3t" not in watcher.log


@pytest.mark.parametrize("content", ["watcher:p@ss:word\n", "s3cr3t"])
def test_a_login_in_a_file(
    start_server: ServerFactory,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
    tmp_path: Path,
    content: str,
) -> None:
    server = start_server(
        "authorization { token: s3cr3t }"
        if ":" not in content
        else "authorization { user: watcher, password: 'p@ss:word' }"
    )
    file = tmp_path / "nats"
    file.write_text(content)
    variables: dict[str, object] = {"nats": server.url, "nats_credentials_file": file}
    start_watcher(variables)
    wait_for_age(follow(variables), "w1")


def test_a_creds_file(
    start_server: ServerFactory,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
    tmp_path: Path,
) -> None:
    accounts = Accounts()
    server = start_server(accounts.configuration)
    file = tmp_path / "user.creds"
    file.write_text(accounts.credentials())
    variables: dict[str, object] = {"nats": server.url, "nats_credentials_file": file}
    start_watcher(variables)
    wait_for_age(follow(variables), "w1")


def test_a_rejected_login_is_logged_once_and_a_changed_file_is_used(
    start_server: ServerFactory,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
    tmp_path: Path,
) -> None:
    server = start_server("authorization { token: former }")
    file = tmp_path / "token"
    file.write_text("former")
    variables: dict[str, object] = {"nats": server.url, "nats_credentials_file": file}
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    server.file.write_text(server.file.read_text().replace("former", "present"))
    server.reload()
    wait_until("it is rejected", lambda: "Authorization Violation" in watcher.log)
    wait_until("it is lost", lambda: following.is_lost("w1"))
    file.write_text("present")
    now = clock.now()
    wait_until("it is connected again", lambda: following.is_live("w1", now))
    assert watcher.log.count("Authorization Violation") <= 2


def test_tls_with_client_certificates(
    start_server: ServerFactory,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
    network: Network,
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path, network.address(245))
    server = start_server(tls(certificates, verify=True))
    cert, key = certificates.client()
    variables: dict[str, object] = {
        "nats": server.url,
        "nats_tls_ca": certificates.ca,
        "nats_tls_cert": cert,
        "nats_tls_key": key,
    }
    start_watcher(variables)
    following = follow(variables)
    wait_for_age(following, "w1")
    # A renewed certificate is used by the next connection.
    certificates.client()
    server.kill()
    server.launch()
    now = clock.now()
    wait_until("it is connected again", lambda: following.is_live("w1", now))


@pytest.mark.parametrize(
    ("server_has_tls", "known", "text"),
    [
        (False, True, "the server does not offer TLS"),
        (True, False, "certificate: unable to get local issuer certificate"),
    ],
)
def test_a_server_that_cannot_be_trusted(
    start_server: ServerFactory,
    start_watcher: WatcherFactory,
    network: Network,
    tmp_path: Path,
    server_has_tls: bool,
    known: bool,
    text: str,
) -> None:
    certificates = Certificates(tmp_path, network.address(245))
    server = start_server(tls(certificates) if server_has_tls else "")
    other = tmp_path / "other"
    other.mkdir()
    ca = certificates.ca if known else Certificates(other, network.address(245)).ca
    watcher = start_watcher(
        {"nats": server.url.replace("nats:", "tls:"), "nats_tls_ca": ca}, connected=False
    )
    wait_until(lambda: watcher.log, lambda: text in watcher.log)
    assert "connected to" not in watcher.log


def test_a_name_that_cannot_be_resolved(
    start_server: ServerFactory, start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    server = start_server("")
    variables: dict[str, object] = {"nats": f"nats://no-such-host.invalid,{server.url}"}
    start_watcher(variables)
    wait_for_age(follow(variables), "w1")
