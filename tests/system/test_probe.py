"""The probe on a real server, without the daemon around it."""

import asyncio
import os
import re
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pgstatus.core.snapshot import Failure, Observation
from pgstatus.demo.cluster import Cluster
from pgstatus.demo.network import Network
from pgstatus.errors import Cause, CheckError
from pgstatus.monitor import libpq
from pgstatus.monitor.probe import Probe
from tests.conftest import ClusterFactory
from tests.support.illhosts import listener
from tests.support.probing import Result, check_until, probing, target
from tests.support.waiting import wait_until

# The servers of the extra demo are built without TLS.
DEBIAN = "/usr/lib/postgresql/15/bin"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def resolving_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> Iterator[None]:
    """All names have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in addresses]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
        yield


def test_an_address_that_drops_packets_leaves_the_next_its_share(
    cluster: Cluster, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, server = network.address(249), cluster.primary

    async def run() -> None:
        async with probing(target("two.example", server.port, connect_timeout=3.0)) as probe:
            assert not (await probe.check()).in_recovery

    with (
        listener(silent, None, server.port),
        resolving_to(monkeypatch, silent, server.address),
    ):
        asyncio.run(run())


def test_after_a_failed_login_all_addresses_are_tried(
    cluster: Cluster, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next login begins with a TCP connection, which an address may not answer either."""
    silent, closed, server = network.address(249), network.address(248), cluster.primary

    async def run() -> None:
        async with probing(target("two.example", server.port, connect_timeout=3.0)) as probe:
            with resolving_to(monkeypatch, silent, closed), pytest.raises(CheckError) as caught:
                await probe.check()
            assert str(caught.value) == (
                f"{silent}: no response in time; {closed}: Connection refused"
            )
            assert not caught.value.down
            with resolving_to(monkeypatch, silent, server.address):
                await probe.check()

    with listener(silent, None, server.port):
        asyncio.run(run())


def test_a_refused_connection_costs_no_thread(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)

    async def run() -> None:
        async with probing(target(network.address(249), 1)) as probe:
            for _ in range(10):
                with pytest.raises(CheckError, match=r"^Connection refused$") as caught:
                    await probe.check()
                assert caught.value.down
                assert caught.value.cause is Cause.CONNECT

    asyncio.run(run())
    assert len(started) == 1


def test_failed_checks_leave_no_open_files(cluster: Cluster, network: Network) -> None:
    silent = network.address(249)
    server = cluster.primary

    async def run(port: int) -> None:
        probes = [
            Probe(target(silent, port, connect_timeout=0.02), lambda: None),
            Probe(target(silent, 1), lambda: None),
            Probe(target(server.address, server.port, max_age=0), lambda: None),
            Probe(target(server.address, server.port, password="wrong"), lambda: None),
        ]

        async def check_all() -> None:
            for probe in probes:
                try:
                    await probe.check()
                except CheckError:
                    continue

        await check_all()
        before = open_files()
        for _ in range(50):
            await check_all()
        assert open_files() <= before + 1  # a login that has not returned yet

    with listener(silent, None) as port:
        asyncio.run(run(port))


def test_a_connection_that_the_server_ends_is_noticed_and_fails_no_check(cluster: Cluster) -> None:
    server = cluster.primary

    async def run() -> None:
        lost = asyncio.Event()
        probe = Probe(target(server.address, server.port), lost.set)
        await probe.check()
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'pg-status' AND pid <> pg_backend_pid()"
        )
        await asyncio.to_thread(server.sql, end)
        async with asyncio.timeout(10):
            await lost.wait()
        await probe.check()
        probe.close()

    asyncio.run(run())


def test_a_slow_login_is_joined_by_the_next_check(cluster: Cluster) -> None:
    """A login may take longer than a check; it is not begun again each time."""
    server = cluster.primary
    with listener_before(server.address, server.port, delay=1.2) as (address, port):

        async def run() -> None:
            async with probing(
                target(address, port, query_timeout=1.0, connect_timeout=5.0)
            ) as probe:
                with pytest.raises(CheckError, match=r"no connection within 1 s"):
                    await probe.check()
                assert not (await probe.check()).in_recovery

        asyncio.run(run())


@contextmanager
def listener_before(host: str, port: int, delay: float) -> Iterator[tuple[str, int]]:
    """Forwards one connection to the server, the first bytes after a delay."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def forward() -> None:
            client, _ = listening.accept()
            with client, socket.create_connection((host, port)) as server:
                threading.Event().wait(delay)
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()

        def pump(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(10_000):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        yield "127.0.0.1", int(listening.getsockname()[1])
        thread.join(5)


def test_an_encrypted_client_key_causes_no_prompt(network: Network, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("client@example.com")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    key_file, certificate_file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    key_file.chmod(0o600)
    certificate.cert_chain_pems[0].write_to_path(certificate_file)
    address = network.address(249)
    files = {"sslcert": str(certificate_file), "sslkey": str(key_file), "sslmode": "require"}

    async def run(port: int, **more: str) -> str:
        async with probing(target(address, port, **files, **more)) as probe:
            with pytest.raises(CheckError) as caught:
                await probe.check()
            return str(caught.value)

    with listener(address, b"S") as port:
        assert "could not load private key file" in asyncio.run(run(port))
        assert "could not load" not in asyncio.run(run(port, sslpassword="secret"))


def test_without_a_thread_the_check_of_that_host_fails(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with probing(cluster.primary) as kept, probing(cluster.replicas[0]) as new:
            await kept.check()

            def start(thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                with pytest.raises(CheckError, match="can't start new thread"):
                    await new.check()
                await kept.check()
            await new.check()

    asyncio.run(run())


def test_without_a_descriptor_the_check_of_that_host_fails(
    cluster: Cluster, network: Network
) -> None:
    async def run() -> None:
        closed = target(network.address(249), 1)
        async with probing(cluster.primary) as kept, probing(closed) as refused:
            await kept.check()
            with pytest.raises(CheckError):
                await refused.check()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                with pytest.raises(CheckError, match="Too many open files") as caught:
                    await refused.check()
                assert not caught.value.down
                await kept.check()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    asyncio.run(run())


def test_a_login_in_progress_does_not_outlive_the_loop(network: Network) -> None:
    silent = network.address(249)

    async def run(port: int) -> None:
        limits = {"connect_timeout": 0.5, "query_timeout": 0.1}
        async with probing(target(silent, port, **limits)) as probe:
            with pytest.raises(CheckError):
                await probe.check()

    def threads() -> list[Any]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("login")]

    with listener(silent, None) as port:
        asyncio.run(run(port))
        wait_until("the thread ends", lambda: not threads())


def errors_of_a_silent_host(network: Network, checks: int, **limits: float) -> set[str]:
    silent = network.address(249)

    async def run(port: int) -> set[str]:
        texts = set()
        async with probing(target(silent, port, **limits)) as probe:
            for _ in range(checks):
                with pytest.raises(CheckError) as caught:
                    await probe.check()
                texts.add(str(caught.value))
        return texts

    with listener(silent, None) as port:
        return asyncio.run(run(port))


def test_a_silent_host_has_the_same_error_in_each_check(network: Network) -> None:
    """Whether the check or the login that it waits for has reached its limit."""
    texts = errors_of_a_silent_host(network, 5, connect_timeout=0.3, query_timeout=0.2)
    assert texts == {"no connection within 0.2 s"}


def test_a_login_within_its_limit_does_not_block(network: Network) -> None:
    # The checks take longer than a second together.
    texts = errors_of_a_silent_host(network, 15, connect_timeout=3.0, query_timeout=0.1)
    assert texts == {"no connection within 0.1 s"}


def test_a_login_that_blocks_is_reported(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, released = network.address(249), threading.Event()

    def block(pgconn: object) -> NoReturn:
        released.wait()
        raise OSError

    async def run(port: int) -> None:
        limits = {"connect_timeout": 0.1, "query_timeout": 0.2}
        async with probing(target(silent, port, **limits)) as probe:

            def is_reported(result: Result) -> bool:
                assert isinstance(result, Failure)
                text = r"no connection within 0\.[12] s: libpq has not returned for \d+ s"
                return re.fullmatch(text, result.message) is not None

            try:
                await check_until(probe, "it is reported", is_reported)
            finally:
                released.set()

    monkeypatch.setattr(libpq, "connect_poll", block)
    with listener(silent, None) as port:
        asyncio.run(run(port))


def test_a_second_login_that_takes_too_long_is_reported_with_its_own_limit(
    cluster: Cluster,
) -> None:
    """No check waits for it: the kept connection works."""
    server = cluster.primary
    with listener_before(server.address, server.port, delay=0) as (address, port):

        async def run() -> None:
            limits = {"connect_timeout": 2.2, "query_timeout": 2.0, "max_age": 0.5}
            async with probing(target(address, port, **limits)) as probe:
                results = await check_until(
                    probe, "it is reported", lambda r: isinstance(r, Observation) and not r.admits
                )
                refused = results[-1]
                assert isinstance(refused, Observation)
                assert refused.refusal == "no connection within 2.2 s"

        asyncio.run(run())


@pytest.mark.skipif(not Path(DEBIAN).exists(), reason="a server with TLS is missing")
def test_checks_over_tls(make_cluster: ClusterFactory) -> None:
    server = make_cluster(DEBIAN, replicas=0).primary
    certificate = trustme.CA().issue_cert(server.address)
    owner = server.data.stat()
    for name, blob in (
        ("server.key", certificate.private_key_pem),
        ("server.crt", certificate.cert_chain_pems[0]),
    ):
        path = server.data / name
        blob.write_to_path(path)
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    server.sql("ALTER SYSTEM SET ssl = on")
    server.sql("SELECT pg_reload_conf()")

    async def run() -> None:
        async with probing(server, sslmode="require", max_age=0.05) as probe:
            for _ in range(30):
                assert not (await probe.check()).in_recovery
                assert not (await probe.position()).in_recovery
                await asyncio.sleep(0.01)

    wait_until("TLS is in use", lambda: server.sql("SHOW ssl") == [("on",)])
    asyncio.run(run())
