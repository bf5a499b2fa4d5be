"""Failures of the NATS servers, of the connections to them, and of the processes that use them.

The clocks of all processes are one clock, so that the true age of a document is known: whatever
fails, no document is passed on as younger than it is.
"""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
import pytest
from nats.js.api import StorageType

from pgstatus import clock
from pgstatus.demo.network import Network
from tests.conftest import Daemons
from tests.nats.conftest import FollowingFactory, WatcherFactory, wait_for_age
from tests.nats.following import Following
from tests.support.nats import NatsCluster, NatsServer
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def servers(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Three servers; each test leaves them running."""
    with NatsCluster(tmp_path_factory.mktemp("nats"), network) as servers:
        yield servers


@pytest.fixture
def variables(servers: NatsCluster) -> dict[str, object]:
    return {"nats": servers.urls, "nats_replicas": 3}


def assert_ages(following: Following) -> None:
    """Nothing was passed on as younger than it is."""
    for call in following.received_all:
        assert call.after <= call.document.sent <= call.at


def wait_for_news(following: Following, watcher: str = "w1") -> float:
    """Evidence that was made from now on has arrived; the seconds that this took."""
    now = clock.now()
    wait_until(f"new evidence of {watcher}", lambda: following.is_live(watcher, now), 30)
    return clock.now() - now


def only(variables: dict[str, object], *servers: NatsServer) -> dict[str, object]:
    """With these servers alone."""
    return {**variables, "nats": ",".join(server.url for server in servers)}


def test_each_server_is_killed_in_turn(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    """Among them are the leader of the bucket, and those of the watcher and of the relay."""
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    wait_until("the bucket has a leader", lambda: servers.leader_of("KV_pg-status"))
    for server in servers.servers:
        server.kill()
        wait_for_news(following)
        server.launch()
        servers.wait_until_ready()
    assert_ages(following)
    assert "Traceback" not in watcher.log


@pytest.mark.parametrize("data", ["deleted", "kept"])
def test_all_servers_are_killed(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
    data: str,
) -> None:
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    for server in servers.servers:
        server.kill()
    wait_until("it is lost", lambda: following.is_lost("w1"))
    calls = len(following.received_all)
    wait_until("attempts to connect", lambda: watcher.log.count("cannot connect") == 3)
    assert len(following.received_all) == calls
    if data == "deleted":
        for server in servers.servers:
            server.forget()
    servers.launch()
    wait_for_news(following)
    if data == "deleted":
        wait_until("the bucket exists", lambda: servers.leader_of("KV_pg-status"), 30)
    assert_ages(following)
    assert len(watcher.log.splitlines()) < 20


def test_a_frozen_server_is_left_and_what_it_kept_has_its_age(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    """The watcher sends into the buffers of a frozen server; the relay follows through another."""
    first, second, _ = servers.servers
    start_watcher(only(variables, first, second))
    near, far = follow(only(variables, first)), follow(only(variables, second))
    for following in (near, far):
        wait_for_age(following, "w1")
    first.freeze()
    wait_until("it is lost", lambda: near.is_lost("w1"))
    wait_for_news(far)
    first.thaw()
    for following in (near, far):
        wait_for_news(following)
        assert_ages(following)


def test_a_frozen_relay_receives_old_evidence_as_old(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    with following.frozen():
        frozen = clock.now()
        wait_until("some documents are sent", lambda: clock.now() > frozen + 2)
        # The watcher that has died meanwhile is not taken for alive.
        watcher.kill()
    wait_until("it is lost", lambda: following.is_lost("w1"))
    assert_ages(following)
    assert any(call.at > frozen + 2 for call in following.of("w1"))


def test_evidence_of_a_process_that_has_lived_and_died_meanwhile_has_no_age(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    """The first document of an unknown process was delayed."""
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    former = following.last("w1")
    assert former is not None
    with following.frozen():
        watcher.kill()
        watcher.launch()
        wait_until("it is connected", lambda: watcher.log.count("connected to") == 2)
        connected = clock.now()
        wait_until("some documents are sent", lambda: clock.now() > connected + 1)
        watcher.kill()
    wait_until("it is lost", lambda: following.is_lost("w1"))
    assert_ages(following)
    latest = following.last("w1")
    assert latest is not None
    assert latest.document.watcher != former.document.watcher
    for call in following.of("w1"):
        assert call.after < 0 or call.document.watcher == former.document.watcher


def test_a_full_disk_stops_no_evidence(
    network: Network,
    tmp_path: Path,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    """JetStream has no space for the bucket."""
    limits = "max_memory_store: 1, max_file_store: 1"
    with NatsCluster(tmp_path, network, first=250, servers=1, jetstream=limits) as servers:
        variables: dict[str, object] = {"nats": servers.urls}
        watcher, following = start_watcher(variables), follow(variables)
        wait_for_age(following, "w1")
        wait_for_news(following)
        wait_until("it is logged", lambda: "WARNING NATS: bucket pg-status" in watcher.log)
        assert_ages(following)


def test_a_full_disk_below_a_bucket_with_files(
    network: Network,
    tmp_path: Path,
    undo: ExitStack,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    """The server with the leader of the bucket then processes nothing that is published."""
    for name in ("n1", "n2", "n3"):
        undo.enter_context(small_file_system(tmp_path / name))
    servers = undo.enter_context(
        NatsCluster(tmp_path, network, first=250, jetstream="max_file_store: 100MB")
    )
    variables: dict[str, object] = {"nats": servers.urls}

    async def create() -> None:
        client = await nats.connect([server.url for server in servers.servers])
        await client.jetstream().create_key_value(
            bucket="pg-status", storage=StorageType.FILE, replicas=3
        )
        await client.close()

    asyncio.run(create())
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    leader = wait_until("the bucket has a leader", lambda: servers.leader_of("KV_pg-status"))
    assert leader is not None
    with (
        contextlib.suppress(OSError),
        (leader.store.parent / "fill").open("wb", buffering=0) as file,
    ):
        while True:
            file.write(bytes(4096))
    full = clock.now()
    wait_until("the server has been left", lambda: clock.now() > full + 5)
    for number in range(200):
        watcher.change(number)
    wait_for_news(following)
    assert_ages(following)


@contextmanager
def small_file_system(directory: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("requires root, to mount a small file system")
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_server_that_is_of_no_use_is_left(
    network: Network,
    tmp_path: Path,
    undo: ExitStack,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    """Two servers that are separated from each other, as by a partition. One stores no evidence,
    and no evidence of `orders` arrives at it.
    """
    first = NatsCluster(tmp_path / "1", network, first=250, servers=1, jetstream=None)
    second = NatsCluster(tmp_path / "2", network, first=251, servers=1)
    both: dict[str, object] = {"nats": f"{first.urls},{second.urls}"}
    undo.enter_context(first)
    following, users = follow(both), start_watcher(both, "w2", "users")
    wait_until("both are connected to it", lambda: connections(first) == 2)
    undo.enter_context(second)
    start_watcher({"nats": second.urls}, "w1", "orders")
    wait_for_age(following, "w1")
    wait_until(lambda: users.log, lambda: "evidence is stored" in users.log)


def connections(servers: NatsCluster) -> int:
    return int(servers.servers[0].get("/connz")["num_connections"])


def test_a_server_without_jetstream(
    network: Network,
    tmp_path: Path,
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    with NatsCluster(tmp_path, network, first=250, servers=1, jetstream=None) as servers:
        variables: dict[str, object] = {"nats": servers.urls}
        watcher, following = start_watcher(variables), follow(variables)
        wait_for_age(following, "w1")
        wait_until("it is logged", lambda: "JetStream" in watcher.log)


def test_the_messages_of_several_clusters_name_theirs(
    network: Network, tmp_path: Path, daemons: Daemons
) -> None:
    with NatsCluster(tmp_path, network, first=250, servers=1, jetstream=None) as servers:
        hosts = {"orders__hosts": "127.0.0.1:1", "users__hosts": "127.0.0.1:1"}
        daemon = daemons.start(None, nats=servers.urls, clusters="orders,users", **hosts)
        lines = [f"{cluster}: NATS: bucket pg-status: " for cluster in ("orders", "users")]
        wait_until(lambda: daemon.log, lambda: all(line in daemon.log for line in lines))
