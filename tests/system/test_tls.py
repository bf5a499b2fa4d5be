"""HTTPS: the same responses, clients with and without certificates, and invalid data."""

import _ssl
import contextlib
import ctypes
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from pgstatus.demo.cluster import Cluster
from pgstatus.settings.tls import server_context
from tests.conftest import Daemons
from tests.support.certificates import Certificates
from tests.support.daemon import Daemon
from tests.support.running import answers
from tests.support.serving import Serving, undated
from tests.support.waiting import wait_until
from tests.system.test_http_bytes import WHOLE


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path, "127.0.0.1")


@pytest.fixture
def serving(certificates: Certificates) -> Serving:
    context = server_context(certificates.cert, certificates.key, None)
    return Serving(WHOLE, context=context)


def connect(serving: Serving, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(serving.address, 10)
    return context.wrap_socket(sock, server_hostname="127.0.0.1")


def read_answer(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    length = int(data.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(data) < data.index(b"\r\n\r\n") + 4 + length:
        data += sock.recv(65536)
    return undated(data)


# With its linked libraries.
OPENSSL = ctypes.CDLL(_ssl.__file__)
PATHS = ["/master", "/replica", "/hosts", "/nothing", "/replica?lag_ms=x", "/is_master?host=a"]


def test_the_same_bytes_as_without_tls(serving: Serving, certificates: Certificates) -> None:
    with (
        serving,
        Serving(WHOLE) as plain,
        plain.connect() as theirs,
        connect(serving, certificates.context()) as sock,
    ):
        for path in PATHS * 3:
            request = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()
            sock.sendall(request)
            theirs.send(request)
            assert read_answer(sock) == theirs.answer(), path


def test_many_requests_at_once_and_byte_by_byte(
    serving: Serving, certificates: Certificates
) -> None:
    request = b"GET /hosts HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with serving:
        # More than one TLS record, so that a part is decrypted and a part still in the kernel.
        with connect(serving, certificates.context()) as sock:
            sock.sendall(request * 1000 + last)
            data = b""
            while part := sock.recv(65536):
                data += part
            assert data.count(b"HTTP/1.1 200 OK\r\n") == 1001
        with connect(serving, certificates.context()) as sock:
            for byte in request:
                sock.sendall(bytes([byte]))
            assert read_answer(sock).startswith(b"HTTP/1.1 200 OK\r\n")


def test_invalid_handshakes_do_not_affect_others(
    serving: Serving, certificates: Certificates
) -> None:
    """Plain HTTP, random data, silence, and a client that disconnects during the handshake."""
    with serving, contextlib.ExitStack() as undo:
        for _ in range(50):
            undo.enter_context(socket.create_connection(serving.address, 10))  # says nothing
        for sent in (
            b"GET /master HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"\0" * 99,
        ):
            with socket.create_connection(serving.address, 10) as sock:
                sock.sendall(sent)
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    assert b"HTTP/1.1 200" not in sock.recv(1000)
        with connect(serving, certificates.context()) as sock:
            sock.sendall(b"GET /master HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(sock).endswith(b"\r\n\r\na")


def test_a_slow_reader_receives_everything_and_delays_no_other(certificates: Certificates) -> None:
    context = server_context(certificates.cert, certificates.key, None)
    with (
        Serving(WHOLE, context=context, send_buffer=4096) as serving,
        connect(serving, certificates.context()) as slow,
    ):
        slow.sendall(b"GET /hosts HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        with connect(serving, certificates.context()) as other:
            other.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(other).endswith(b"OK")
        slow.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while part := slow.recv(1000):
            data += part
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 501


def test_endless_key_updates_delay_no_other(serving: Serving, certificates: Certificates) -> None:
    """They contain no application data, so a read may not return while they arrive."""
    request = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving, socket.create_connection(serving.address, 10) as attacker:
        flood = key_updates(attacker, certificates.context(), 300_000)
        attacker.settimeout(60)
        with connect(serving, certificates.context()) as sock:
            sending = threading.Thread(target=attacker.sendall, args=(flood,))
            sending.start()
            try:
                for _ in range(5):
                    sock.sendall(request)
                    assert read_answer(sock).endswith(b"OK")
                assert sending.is_alive(), "the flood ended before a response was received"
            finally:
                sending.join()


def key_updates(sock: socket.socket, context: ssl.SSLContext, number: int) -> bytes:
    """Complete the handshake; return the bytes of this number of key updates."""
    arrived, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(arrived, to_send, server_hostname="127.0.0.1")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(to_send.read())
            arrived.write(sock.recv(65536))
    sock.sendall(to_send.read())
    # Python does not provide SSL_key_update(3). In CPython's object, the pointer of OpenSSL follows
    # the object header and a reference to the socket.
    address = id(tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # type: ignore[attr-defined]
    openssl = ctypes.c_void_p.from_address(address)
    for _ in range(number):
        assert OPENSSL.SSL_key_update(openssl, 0) == 1
        assert OPENSSL.SSL_do_handshake(openssl) == 1
    return to_send.read()


def test_clients_without_a_certificate(certificates: Certificates) -> None:
    """They can access the probes only, regardless of cached responses to the same bytes."""
    context = server_context(certificates.cert, certificates.key, certificates.ca)
    known = certificates.context(certificates.client())
    requests = {p: b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % p.encode() for p in (*PATHS, "/health")}
    with Serving(WHOLE, context=context) as serving:
        with connect(serving, known) as friend, connect(serving, certificates.context()) as other:
            for _ in range(3):
                for path, request in requests.items():
                    friend.sendall(request)
                    other.sendall(request)
                    answer = read_answer(other)
                    assert read_answer(friend).startswith(b"HTTP/1.1 403") is False
                    assert answer.startswith(b"HTTP/1.1 403") is (path != "/health"), path
        unknown = certificates.context(certificates.client(known=False))
        # In TLS 1.3 the client detects it when it reads: a TLS alert or a reset.
        answer = b""
        with contextlib.suppress(OSError), connect(serving, unknown) as sock:
            sock.sendall(requests["/master"])
            answer = sock.recv(1000)
        assert answer == b""


def speak_https(daemon: Daemon, certificates: Certificates) -> httpx.Client:
    """Let the client of the daemon present it as well."""
    daemon.client = httpx.Client(
        base_url=daemon.url.replace("http:", "https:"), verify=certificates.context(), timeout=5
    )
    return daemon.client


def test_a_daemon_with_renewed_certificates(
    cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    """Start, responses, `pg-status health` and `hosts`, renewal by SIGHUP."""
    daemon = daemons.prepare(cluster)
    certificates = Certificates(tmp_path, daemon.address)
    for name, value in certificates.variables.items():
        daemon.environment[f"pg_status__{name}"] = str(value)
    client = speak_https(daemon, certificates)
    with daemon:
        assert client.get("/master").text == cluster.primary.address
        before = _certificate(daemon)
        for arguments in (["health"], ["hosts"], ["explain", "master"]):
            assert _run(daemon, *arguments).returncode == 0
        done = _run(daemon, "hosts", "--url", str(client.base_url), "--ca", str(certificates.ca))
        assert cluster.primary.address in done.stdout
        assert _run(daemon, "hosts", "--url", str(client.base_url)).returncode == 1
        certificates.renew()
        daemon.process.send_signal(signal.SIGHUP)
        wait_until("the new certificate", lambda: _certificate(daemon) != before)
        assert client.get("/master").text == cluster.primary.address
        certificates.key.write_text("nonsense")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(
            "the reload is refused", lambda: "reload refused: pg_status__http_tls" in daemon.log
        )
        assert client.get("/master").text == cluster.primary.address
        client.close()
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 8


def test_a_token_is_not_sent_to_another_server_on_the_port(
    daemons: Daemons, tmp_path: Path
) -> None:
    """While the daemon is down, any process can listen on its port."""
    (tmp_path / "ours").mkdir()
    token = tmp_path / "token"
    token.write_text("t" * 32)
    thieves = Certificates(tmp_path, "127.0.0.1")
    ours = Certificates(tmp_path / "ours", "127.0.0.1")
    context = server_context(thieves.cert, thieves.key, None)
    with Serving(WHOLE, context=context) as squatter:
        daemon = daemons.prepare(None, hosts="a", http_token_file=token, **ours.variables)
        address, port = squatter.address
        daemon.environment["pg_status__http_listen_address"] = address
        daemon.environment["pg_status__http_port"] = str(port)
        done = _run(daemon, "hosts")
        assert done.returncode == 1
        assert "certificate verify failed" in done.stderr
        assert squatter.app_calls == 0


def test_certificates_required_by_a_reload(
    cluster: Cluster, daemons: Daemons, tmp_path: Path
) -> None:
    """An existing connection, without a certificate, is closed."""
    env_file = tmp_path / "env"
    daemon = daemons.prepare(cluster, env_file=env_file)
    certificates = Certificates(tmp_path, daemon.address)
    lines = [f"pg_status__{name}={value}\n" for name, value in certificates.variables.items()]
    env_file.write_text("".join(lines))
    client = speak_https(daemon, certificates)
    with daemon:
        assert client.get("/hosts").status_code == 200
        assert f"listening on https://{daemon.address}:{daemon.port}\n" in daemon.log
        assert "http://" not in daemon.log
        env_file.write_text("".join([*lines, f"pg_status__http_tls_client_ca={certificates.ca}\n"]))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until("access is refused", lambda: answers(client, "/hosts", 403))
        assert client.get("/health").status_code == 200


def _certificate(daemon: Daemon) -> str:
    return ssl.get_server_certificate((daemon.address, daemon.port))


def _run(daemon: Daemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pgstatus", *arguments],
        env=daemon.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"http_tls_key": ""}, "HTTPS requires http_tls_cert and http_tls_key"),
        ({"http_tls_cert": "/nowhere"}, "cannot use the files: /nowhere: no such file"),
        ({"http_tls_client_ca": "/nowhere"}, "cannot use the files: /nowhere: no such file"),
        ({"http_tls_key": __file__}, "cannot use the files: [SSL]"),
    ],
)
def test_unusable_files_are_reported(
    daemons: Daemons, certificates: Certificates, broken: dict[str, str], words: str
) -> None:
    daemon = daemons.prepare(None, hosts="127.0.0.1", **{**certificates.variables, **broken})
    daemon.launch()
    assert daemon.process.wait(60) == os.EX_CONFIG
    assert words in daemon.log
