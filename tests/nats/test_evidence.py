"""Evidence of real processes through a JetStream cluster of three servers."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StorageType

from pgstatus import clock
from tests.nats.conftest import FollowingFactory, WatcherFactory, own_clock, wait_for_age
from tests.nats.watching import OFFSET
from tests.support.nats import NatsCluster
from tests.support.waiting import wait_until

_numbers = count()


@pytest.fixture
def variables(servers: NatsCluster) -> dict[str, object]:
    """Each test has a bucket of its own."""
    return {"nats": servers.urls, "nats_bucket": f"test-{next(_numbers)}", "nats_replicas": 3}


def with_client(servers: NatsCluster, act: Callable[[Client], Awaitable[Any]]) -> Any:
    """What an administrator does with the servers."""

    async def run() -> Any:
        client = await nats.connect([server.url for server in servers.servers])
        try:
            return await act(client)
        finally:
            await client.close()

    return asyncio.run(run())


def test_the_clock_of_a_watcher_may_differ(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    differs = own_clock()
    start_watcher(variables, own_clock=differs)
    following = follow(variables)
    wait_for_age(following, "w1")
    # The clocks of this machine are one clock, plus the offset.
    for call in following.of("w1"):
        made = call.document.sent - (OFFSET if differs else 0)
        assert call.after <= made <= call.at
    last = following.last("w1")
    assert last is not None
    assert last.document.sent - (OFFSET if differs else 0) - last.after < 1


def test_a_change_is_published_at_once_and_other_results_within_a_second(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    watcher.change(2000)
    wait_until("the change", lambda: following.last("w1").lsn == 2000)  # type: ignore[union-attr]
    before = len(following.of("w1"))
    wait_until("signs of life", lambda: len(following.of("w1")) > before + 2)


def test_clusters_share_the_bucket(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    start_watcher(variables, "w1", "orders", hosts=("o1", "o2"))
    start_watcher(variables, "w2", "orders", hosts=("o1", "o2"))
    start_watcher(variables, "w3", "Users & more.", hosts=("u1",))
    orders, users = follow(variables, "orders"), follow(variables, "Users & more.")
    wait_for_age(orders, "w1", "w2")
    wait_for_age(users, "w3")
    assert {call.source for call in orders.received_all} == {"nats:w1", "nats:w2"}
    assert {call.source for call in users.received_all} == {"nats:w3"}


def test_watchers_that_start_together_create_one_bucket(
    servers: NatsCluster, variables: dict[str, object], start_watcher: WatcherFactory
) -> None:
    names = ["w1", "w2", "w3"]
    watchers = [start_watcher(variables, name, connected=False) for name in names]
    for watcher in watchers:
        wait_until(lambda watcher=watcher: watcher.log, watcher.answers)  # type: ignore[misc]

    async def keys(client: Client) -> set[str]:
        try:
            bucket = await client.jetstream().key_value(str(variables["nats_bucket"]))
            return set(await bucket.keys())
        except nats.errors.Error:
            return set()

    wait_until(
        "the evidence of each is stored",
        lambda: with_client(servers, keys) == {f"orders.{name}" for name in names},
    )
    assert not any("WARNING" in watcher.log for watcher in watchers)


def test_an_existing_bucket_with_other_settings_is_used(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    bucket = str(variables["nats_bucket"])

    async def create(client: Client) -> None:
        await client.jetstream().create_key_value(
            bucket=bucket, history=5, storage=StorageType.FILE, replicas=1, direct=False
        )

    with_client(servers, create)
    watcher = start_watcher(variables)

    async def is_stored(client: Client) -> bool:
        try:
            return bool((await (await client.jetstream().key_value(bucket)).get("orders.w1")).value)
        except nats.errors.Error:
            return False

    wait_until("it is stored", lambda: with_client(servers, is_stored))
    watcher.kill()
    following = follow(variables)
    wait_until("what the bucket holds", lambda: following.last("w1"))
    assert "WARNING" not in watcher.log


def test_what_a_former_watcher_has_left_counts_as_memory_only(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    watcher, other = start_watcher(variables), follow(variables)
    wait_for_age(other, "w1")
    count = len(other.of("w1"))
    wait_until("it is stored", lambda: len(other.of("w1")) > count + 1)
    watcher.kill()
    following = follow(variables)
    last = wait_until("what the bucket holds", lambda: following.last("w1"))
    assert last is not None
    assert [str(result.host) for result in last.document.results] == [
        "pg1:5432", "pg2:5432", "pg3:5432",
    ]  # fmt: skip
    assert all(result.value is None for result in last.document.results)
    assert last.document.memory is not None
    assert last.document.memory.newest_timeline == 7
    assert not last.document.ready
    wait_until("it is lost", lambda: following.is_lost("w1"))
    assert not following.has_age("w1")


def test_what_the_bucket_holds_of_a_watcher_that_runs_has_an_age(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watcher, first = start_watcher(variables), follow(variables)
    wait_for_age(first, "w1")
    count = len(first.of("w1"))
    wait_until("it is stored", lambda: len(first.of("w1")) > count + 1)
    following = follow(variables)
    wait_for_age(following, "w1")
    watcher.kill()
    for call in following.of("w1"):
        if call.after > 0:
            assert call.after <= call.document.sent


def test_a_watcher_that_is_started_again(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watcher, following = start_watcher(variables, own_clock=own_clock()), follow(variables)
    wait_for_age(following, "w1")
    former = following.last("w1")
    assert former is not None
    watcher.kill()
    watcher.launch()
    wait_until(
        "evidence of the new process with its age",
        lambda: any(
            call.document.watcher != former.document.watcher and call.after > 0
            for call in following.of("w1")
        ),
    )


def test_a_frozen_watcher_is_lost_and_its_evidence_keeps_its_age(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    watcher.freeze()
    wait_until("it is lost", lambda: following.is_lost("w1"))
    thawed = clock.now()
    watcher.thaw()
    wait_until("new evidence", lambda: following.is_live("w1", thawed))
    for call in following.of("w1"):
        assert call.after <= call.document.sent


def test_a_request_for_positions_reaches_the_watchers(
    variables: dict[str, object], start_watcher: WatcherFactory, follow: FollowingFactory
) -> None:
    watchers = [start_watcher(variables, name) for name in ("w1", "w2")]
    following = follow(variables)
    wait_for_age(following, "w1", "w2")
    for _ in range(50):
        following.request_positions(0.5)
    for watcher in watchers:
        wait_until("the request", lambda watcher=watcher: "positions 0.5" in watcher.log)  # type: ignore[misc]
        assert watcher.log.count("positions") < 10


def test_any_message_is_survived(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    """Requests for positions and for the time, responses to the latter, and values."""
    bucket = variables["nats_bucket"]
    watcher, following = start_watcher(variables), follow(variables)
    wait_for_age(following, "w1")
    deep = b"[" * 100_000
    messages = [b"nan", b"-1", b"1e999", b"x" * 900_000, b"", deep, b"\xff\xfe", b'{"format":1}']

    async def send(client: Client) -> None:
        for number, message in enumerate(messages):
            await client.publish(f"{bucket}.positions.orders", message)
            await client.publish(f"{bucket}.clock.orders", message)
            await client.publish(f"{bucket}.clock.orders", message, reply="test")
            await client.publish(f"$KV.{bucket}.orders.foreign{number}", message)
            await client.publish(f"$KV.{bucket}.orders.w1", message)
            await client.publish(f"$KV.{bucket}.orders.w1.more", message)
            await client.publish(f"$KV.{bucket}.orders", message)
        await client.flush()

    with_client(servers, send)
    now = clock.now()
    wait_until("evidence afterwards", lambda: following.is_live("w1", now))
    assert {call.source for call in following.received_all} == {"nats:w1"}
    # What the bucket holds is no better.
    again = follow(variables)
    wait_for_age(again, "w1")
    assert "WARNING" not in watcher.log


def test_garbage_is_logged_once(
    servers: NatsCluster,
    variables: dict[str, object],
    follow: FollowingFactory,
    start_watcher: WatcherFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start_watcher(variables)
    following = follow(variables)
    wait_for_age(following, "w1")

    async def send(client: Client) -> None:
        for _ in range(100):
            await client.publish(f"$KV.{variables['nats_bucket']}.orders.w9", b"{}")
        await client.flush()

    with_client(servers, send)
    now = clock.now()
    wait_until("evidence afterwards", lambda: following.is_live("w1", now))
    lines = [line for line in caplog.messages if "w9" in line]
    assert len(lines) == 1
    assert "not evidence of pg-status: it has no format" in lines[0]


def test_two_watchers_with_one_name_are_logged(
    variables: dict[str, object],
    follow: FollowingFactory,
    start_watcher: WatcherFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start_watcher(variables, "w1")
    start_watcher({**variables, "nats_name": "w1"}, "w2")
    follow(variables)
    wait_until("it is logged", lambda: "several watchers have this name" in caplog.text)


def test_deletions(
    servers: NatsCluster,
    variables: dict[str, object],
    start_watcher: WatcherFactory,
    follow: FollowingFactory,
) -> None:
    bucket = str(variables["nats_bucket"])
    start_watcher(variables)
    following = follow(variables)
    wait_for_age(following, "w1")

    async def stored(client: Client) -> int:
        try:
            values = await client.jetstream(timeout=0.5).key_value(bucket)
            return (await values.get("orders.w1")).revision or 0
        except nats.errors.Error:
            return 0

    async def delete_key(client: Client) -> None:
        await (await client.jetstream().key_value(bucket)).delete("orders.w1")

    async def purge_key(client: Client) -> None:
        await (await client.jetstream().key_value(bucket)).purge("orders.w1")

    async def purge_bucket(client: Client) -> None:
        await client.jetstream().purge_stream(f"KV_{bucket}")

    async def delete_bucket(client: Client) -> None:
        await client.jetstream().delete_key_value(bucket)

    for delete in (delete_key, purge_key, purge_bucket, delete_bucket):
        wait_until("it is stored", lambda: with_client(servers, stored))
        with_client(servers, delete)
        now = clock.now()
        wait_until("evidence afterwards", lambda now=now: following.is_live("w1", now))  # type: ignore[misc]
    wait_until("it is stored again", lambda: with_client(servers, stored))
    assert not following.lost_all
