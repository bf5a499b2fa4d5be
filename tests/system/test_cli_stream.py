"""The stream that ``pg-status hosts --watch`` reads: over TLS with a token, and a Unix socket."""

import ssl
from pathlib import Path

import pytest

from pgstatus.cli.follow import events
from pgstatus.cli.remote import Instance
from pgstatus.demo.cluster import Cluster
from pgstatus.errors import UnreachableError
from tests.conftest import Daemons
from tests.support.certificates import Certificates
from tests.support.waiting import wait_until


def first_event(instance: Instance) -> dict[str, object]:
    with instance.stream("/watch") as stream:
        assert stream is not None
        return dict(next(iter(events(stream))))


def test_over_tls_with_a_token(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 32)
    daemon = daemons.prepare(cluster, http_token_file=token)
    certificates = Certificates(tmp_path, daemon.address)
    for name, value in certificates.variables.items():
        daemon.environment[f"pg_status__{name}"] = str(value)
    url = daemon.url.replace("http://", "https://")
    context = ssl.create_default_context(cafile=certificates.ca)
    instance = Instance(url, "t" * 32, context)
    with daemon.launched():
        wait_until("it is ready", lambda: _is_ready(instance))
        assert first_event(instance)["master"] == _name(cluster)
        with (
            pytest.raises(UnreachableError, match="status 401"),
            Instance(url, None, context).stream("/watch"),
        ):
            pass


def test_over_a_unix_socket(cluster: Cluster, daemons: Daemons, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    daemon = daemons.prepare(cluster)
    daemon.environment["pg_status__http_listen_address"] = f"unix:{path}"
    instance = Instance(f"unix:{path}")
    with daemon.launched():
        wait_until("it is ready", lambda: _is_ready(instance))
        assert first_event(instance)["master"] == _name(cluster)


def test_the_lines_of_an_event() -> None:
    """Comments and other fields are ignored, several lines of data are joined."""
    lines = [
        b": comment\r\n",
        b"retry: 1\n",
        b"id: 1\n",
        b'data: {"a":\n',
        b"data:1}\n",
        b"\n",
        b"\n",
    ]
    assert list(events(lines)) == [{"a": 1}]


def _name(cluster: Cluster) -> str:
    return f"{cluster.primary.address}:{cluster.primary.port}"


def _is_ready(instance: Instance) -> bool:
    try:
        return instance.probe("/ready").is_ok
    except UnreachableError:
        return False
