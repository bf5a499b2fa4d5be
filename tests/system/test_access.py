"""Tokens: which paths require one, and that cached responses do not bypass them."""

import os
import signal
import socket
from base64 import b64encode
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.running import answers
from tests.support.waiting import wait_until

TOKEN, OTHER = "a" * 32, "b" * 32
GUARDED = [
    "/", "/master", "/replica", "/hosts", "/status?host=x", "/metrics", "/overview", "/version",
    "/is_master?host=x", "/explain/master", "/explain", "/nothing", "/live/", "/live?/../master",
    "//live", "/%6cive/x",
]  # fmt: skip


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture(scope="module")
def guarded(
    cluster: Cluster, session_daemons: Daemons, tmp_path_factory: pytest.TempPathFactory
) -> Daemon:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"{TOKEN}\n")
    return session_daemons.start(cluster, http_token_file=file)


def status(daemon: Daemon, path: str, authorization: str | None = None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    return daemon.get(path, **headers).status_code


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def test_everything_except_the_probes_requires_the_token(guarded: Daemon) -> None:
    for _ in range(2):  # made, then from memory
        assert [status(guarded, path) for path in ("/live", "/ready", "/health")] == [200] * 3
        for path in GUARDED:
            expected = 200 if path == "/live?/../master" else 401
            assert status(guarded, path) == expected, path
            assert status(guarded, path, f"Bearer {TOKEN}") != 401, path
    answer = guarded.get("/master")
    assert answer.headers["www-authenticate"].startswith('Basic realm="pg-status"')
    assert "Authorization: Bearer TOKEN" in answer.json()["error_text"]


def test_the_probes_of_a_relay_disclose_its_upstreams_with_the_token_only(
    daemons: Daemons, token_file: Path
) -> None:
    upstream = "http://127.0.0.1:1"
    relay = daemons.prepare(upstreams=upstream, http_token_file=token_file)
    with relay.launched():
        wait_until("it responds", lambda: answers(relay.client, "/live"))
        for path in ("/ready", "/health"):
            for _ in range(2):  # from the application, and from the response cache
                assert relay.get(path).json() == {
                    "error_text": "not ready: no watcher has delivered evidence yet"
                }
                assert upstream in relay.get(path, Authorization=f"Bearer {TOKEN}").text
        assert upstream in relay.log


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN}", 200),
        (basic("any-user", TOKEN), 200),
        (basic("", TOKEN), 200),
        (f"Bearer {OTHER}", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[1:]}", 401),
        ("Bearer", 401),
        (TOKEN, 401),
        (f"Token {TOKEN}", 401),
        (basic(TOKEN, ""), 401),
        (basic(TOKEN, "wrong"), 401),
        ("Basic !!!", 401),
        ("Basic " + b64encode(TOKEN.encode()).decode(), 401),
    ],
)
def test_forms_of_authorization(guarded: Daemon, authorization: str, expected: int) -> None:
    for _ in range(2):
        assert status(guarded, "/master", authorization) == expected


def test_bytes_that_are_not_utf_8(guarded: Daemon) -> None:
    with socket.create_connection((guarded.address, guarded.port), 5) as sock:
        sock.sendall(b"GET /master HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 401")


def test_tokens_are_replaced_without_interruption(
    cluster: Cluster, daemons: Daemons, token_file: Path
) -> None:
    guarded = daemons.start(cluster, http_token_file=token_file)

    def reload(text: str) -> None:
        before = guarded.log.count("reloaded: ")
        token_file.write_text(text)
        guarded.process.send_signal(signal.SIGHUP)
        wait_until("reloaded", lambda: guarded.log.count("reloaded: ") > before)

    old, new = f"Bearer {TOKEN}", f"Bearer {OTHER}"
    assert [status(guarded, "/version", who) for who in (old, new)] == [200, 401]
    reload(f"{TOKEN}\n\n  {OTHER}\n")
    assert [status(guarded, "/version", who) for who in (old, new)] == [200, 200]
    reload(f"{OTHER}\n")
    assert [status(guarded, "/version", who) for who in (old, new)] == [401, 200]
    token_file.write_text("short\n")
    guarded.process.send_signal(signal.SIGHUP)
    wait_until("the file is rejected", lambda: "token too short" in guarded.log)
    assert status(guarded, "/version", new) == 200
    assert OTHER not in guarded.log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ": empty"),
        ("12345", "token too short (minimum 16 characters)"),
        ("a token of several words", "contains spaces or characters outside ASCII"),
        ("t\u00f6" * 20, "contains spaces or characters outside ASCII"),
        (None, "no such file"),
    ],
)
def test_a_file_without_a_valid_token_is_reported(
    daemons: Daemons, token_file: Path, text: str | None, words: str
) -> None:
    token_file.unlink() if text is None else token_file.write_text(text)
    daemon = daemons.prepare(hosts="127.0.0.1", http_token_file=token_file)
    daemon.launch()
    assert daemon.process.wait(60) == 78
    assert words in daemon.log


def test_a_pipe_in_the_place_of_the_file_does_not_block(daemons: Daemons, token_file: Path) -> None:
    token_file.unlink()
    os.mkfifo(token_file)
    daemon = daemons.prepare(hosts="127.0.0.1", http_token_file=token_file)
    daemon.launch()
    assert daemon.process.wait(60) == 78
    assert "not a regular file" in daemon.log
