"""The variables for NATS, and what they make of an instance."""

import sys
from pathlib import Path

import pytest

from pgstatus.errors import ConfigError
from pgstatus.settings.cluster import Settings
from pgstatus.settings.load import load
from pgstatus.settings.nats import Login, Nats, parse_login


def settings(**variables: object) -> Settings:
    given = {"cluster_name": "orders", **variables}
    environ = {f"pg_status__{name}": str(value) for name, value in given.items()}
    (found,) = load(environ).clusters.values()
    return found


def nats(urls: str, **variables: object) -> Nats:
    found = settings(hosts="pg1", nats=urls, **variables).nats
    assert found is not None
    return found


def problems(**variables: object) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(**variables)
    return "\n".join(caught.value.problems)


def test_with_hosts_it_publishes() -> None:
    found = settings(hosts="pg1", nats="nats://n1")
    assert found.nats is not None
    assert found.fleet is None


def test_without_hosts_it_follows() -> None:
    found = settings(nats="nats://n1")
    assert found.nats is None
    assert found.fleet is not None
    assert found.fleet.nats is not None
    assert found.targets == ()


def test_with_fallback_direct_it_follows() -> None:
    found = settings(hosts="pg1", nats="nats://n1", fallback_direct="true")
    assert found.fleet is not None
    assert found.fleet.fallback_direct
    assert len(found.targets) == 1


def test_servers() -> None:
    found = nats("nats://n1, nats://user:p%40ss@n2:4333,nats://t%20k@[fe80::1]")
    assert [str(server) for server in found.servers] == ["n1:4222", "n2:4333", "[fe80::1]:4222"]
    assert [server.login for server in found.servers] == [
        Login(),
        Login(user="user", password="p@ss"),
        Login(token="t k"),
    ]
    assert not found.tls
    assert nats("nats://n1,tls://n2").tls
    assert "p@ss" not in repr(found)
    assert "t k" not in repr(found)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("user:pass:word\n", Login(user="user", password="pass:word")),
        ("token", Login(token="token")),
    ],
)
def test_credentials(text: str, login: Login) -> None:
    assert parse_login(text) == login


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "-----BEGIN NATS USER JWT-----\nx\n"])
def test_invalid_credentials(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither|without a seed"):
        parse_login(text)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"nats": "http://n1"}, "entry 1 of 1: expected nats://host"),
        ({"nats": "nats://n1,"}, "entry 2 of 2: expected nats://host"),
        ({"nats": "nats://n1:0x"}, "expected nats://host"),
        ({"nats": "nats://[::1"}, "expected nats://host"),
        ({"nats": "nats://n1/path"}, "without a path"),
        ({"nats": "nats://n1", "cluster_name": ""}, "expected a name of this one"),
        ({"nats": "nats://n1", "nats_bucket": "a.b"}, "letters, digits, _ and -"),
        ({"nats": "nats://n1", "nats_replicas": 6}, "1 to 5"),
        ({"nats": "nats://n1", "nats_tls_cert": "/no/file"}, "nats_tls_key: expected a file"),
        ({"nats": "nats://n1", "nats_tls_ca": "/no/file"}, "no such file"),
        ({"nats": "nats://n1", "nats_credentials_file": "/no/file"}, "no such file"),
        ({"nats": "nats://n1", "upstreams": "http://w1:8000"}, "expected one of them"),
        ({"nats": "nats://n1", "fallback_direct": "true"}, "requires pg_status__hosts"),
    ],
)
def test_errors(variables: dict[str, object], text: str) -> None:
    assert text in problems(**variables)


def test_a_password_is_not_part_of_an_error() -> None:
    assert "s3cret" not in problems(nats="nats://user:s3cret@n1:port,s3cret")


@pytest.mark.parametrize("other", [{"nats": "nats://n1"}, {"hosts": "pg1"}])
def test_a_password_of_an_upstream_is_not_part_of_an_error(other: dict[str, object]) -> None:
    text = problems(upstreams="http://user:s3cret@w1", **other)
    assert "expected one of them" in text
    assert "s3cret" not in text


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    assert "pip install 'pg-status[nats]'" in problems(nats="nats://n1")


def test_a_creds_file_requires_nkeys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "creds"
    file.write_text("-----BEGIN NATS USER JWT-----\n-----BEGIN USER NKEY SEED-----\n")
    file.chmod(0o600)
    monkeypatch.setitem(sys.modules, "nkeys", None)
    text = problems(nats="nats://n1", nats_credentials_file=file)
    assert "pip install 'pg-status[nats-creds]'" in text
    file.write_text("token")
    assert settings(nats="nats://n1", nats_credentials_file=file).fleet is not None
