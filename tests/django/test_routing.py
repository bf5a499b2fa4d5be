"""Which server the queries of a request use, and which writes are noted."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from io import BytesIO
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from django.db.models import Max
from django.db.transaction import TransactionManagementError
from django.http import FileResponse
from django.test import AsyncClient, Client

from pgstatus.bookmarks.bookmark import Notes, current_notes
from pgstatus.demo.cluster import Cluster
from pgstatus.django import read_from_replicas, use_master
from pgstatus.django.streaming import route_body
from pgstatus.django.writes import Writes
from tests.django.requests import Browser, host_of
from tests.support.waiting import wait_until


def test_a_client_reads_its_own_write_from_a_replica(notes: Any, browser: Browser) -> None:
    aliases: set[str] = set()

    def read() -> str:
        note = notes.objects.get(pk=key)
        aliases.add(note._state.db)
        return str(note.body)

    for _ in range(20):
        key = browser.run(lambda: notes.objects.create(body="mine").pk)
        assert browser.run(read) == "mine"
    assert "replica" in aliases


def test_requests_use_the_replicas_in_turn(notes: Any, browser: Browser, cluster: Cluster) -> None:
    key = notes.objects.create().pk

    def view() -> str | None:
        note = notes.objects.filter(pk=key).first()
        return None if note is None else host_of(note)

    def hosts() -> set[str | None]:
        return {browser.run(view) for _ in range(4)}

    replicas = {replica.address for replica in cluster.replicas}
    wait_until("requests read from both replicas", lambda: hosts() == replicas)


def test_a_read_after_a_write_of_the_same_request_uses_the_master(
    notes: Any, browser: Browser
) -> None:
    def view() -> tuple[str, str, str]:
        before = notes.objects.using(None).order_by().db
        note = notes.objects.create(body="new")
        return before, notes.objects.get(pk=note.pk)._state.db, notes.objects.db

    assert browser.run(view) == ("replica", "default", "default")


def test_an_explicit_replica_shows_a_write_of_the_same_request(
    notes: Any, browser: Browser, cluster: Cluster
) -> None:
    def view() -> str:
        notes.objects.using("replica").count()
        note = notes.objects.create(body="new")
        return host_of(notes.objects.using("replica").get(pk=note.pk))

    assert browser.run(view) == cluster.primary.address


def test_an_atomic_block_uses_the_master_for_all_its_queries(notes: Any, browser: Browser) -> None:
    def view() -> list[str]:
        used = [notes.objects.db]
        with transaction.atomic():
            used.append(notes.objects.db)
            with transaction.atomic():
                used.append(notes.objects.db)
        used.append(notes.objects.db)
        return used

    assert browser.run(view) == ["replica", "default", "default", "replica"]


def test_a_transaction_without_atomic_uses_the_master(notes: Any, browser: Browser) -> None:
    def view() -> str:
        transaction.set_autocommit(False)
        try:
            return str(notes.objects.db)
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    assert browser.run(view) == "default"


def test_a_callback_of_on_commit_reads_what_was_committed(notes: Any, browser: Browser) -> None:
    def view() -> list[int]:
        seen: list[int] = []
        with transaction.atomic():
            notes.objects.create()
            transaction.on_commit(lambda: seen.append(notes.objects.count()))
        return seen

    assert browser.run(view) == [1]


def test_raw_queries_of_a_model_are_reads(notes: Any, browser: Browser) -> None:
    assert browser.run(lambda: notes.objects.raw("SELECT * FROM notes_note").db) == "replica"


def test_select_for_update_uses_the_master(notes: Any, browser: Browser) -> None:
    assert browser.run(lambda: notes.objects.select_for_update().db) == "default"


def test_an_object_that_was_read_from_a_replica_is_saved_on_the_master(
    notes: Any, browser: Browser, cluster: Cluster
) -> None:
    key = browser.run(lambda: notes.objects.create(body="old").pk)

    def view() -> str:
        note = notes.objects.get(pk=key)
        note.body = "new"
        note.save()
        note.refresh_from_db()
        return str(note.body)

    assert browser.run(view) == "new"
    assert cluster.primary.sql("SELECT body FROM notes_note") == [("new",)]
    browser.run(lambda: notes.objects.get(pk=key).delete())
    assert cluster.primary.sql("SELECT body FROM notes_note") == []


def test_reads_outside_of_requests_use_the_master(notes: Any) -> None:
    assert notes.objects.db == "default"


def test_a_task_may_read_from_replicas(notes: Any) -> None:
    @read_from_replicas()
    def task() -> list[str]:
        used = [notes.objects.db]
        notes.objects.create()
        used.append(notes.objects.db)
        return used

    assert task() == ["replica", "default"]
    assert task() == ["replica", "default"]
    assert notes.objects.db == "default"


def test_the_reads_that_follow_use_master_use_it(notes: Any, browser: Browser) -> None:
    def view() -> tuple[str, str]:
        before = notes.objects.db
        use_master()
        return before, notes.objects.db

    assert browser.run(view) == ("replica", "default")
    assert browser.run(view) == ("replica", "default")


def test_each_cluster_has_its_own_bookmark(notes: Any, browser: Browser) -> None:
    def view() -> tuple[str, str]:
        notes.objects.using("users").create()
        from_users = notes(pk=1)
        from_users._state.db = "users_replica"
        related = notes.objects.db_manager(hints={"instance": from_users}).db
        return notes.objects.db, related

    assert browser.run(view) == ("replica", "users")


def test_databases_without_pg_status_are_not_routed(notes: Any, browser: Browser) -> None:
    def view() -> tuple[str, str]:
        elsewhere = notes(pk=1)
        elsewhere._state.db = "other"
        manager = notes.objects.db_manager(hints={"instance": elsewhere})
        return manager.db, manager._queryset_class(notes, hints={"instance": elsewhere}).db

    assert browser.run(view) == ("other", "other")


def test_a_migration_of_a_replica_changes_nothing(notes: Any) -> None:
    from django.db import router  # noqa: PLC0415

    assert router.allow_migrate_model("default", notes)
    assert not router.allow_migrate_model("replica", notes)
    assert router.allow_relation(_from(notes, "replica"), _from(notes, "default"))
    assert not router.allow_relation(_from(notes, "replica"), _from(notes, "users"))


def _from(notes: Any, alias: str) -> Any:
    note = notes()
    note._state.db = alias
    return note


def _raw(statement: str) -> Callable[[], object]:
    def write() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement)

    return write


def _copy() -> None:
    with (
        connections["default"].cursor() as cursor,
        cursor.copy("COPY notes_note (body) FROM STDIN") as copy,
    ):
        copy.write_row(("written",))


def _atomic(write: Callable[[], object]) -> Callable[[], object]:
    def view() -> None:
        with transaction.atomic(), transaction.atomic():
            write()

    return view


def _driver() -> None:
    with connections["default"].cursor():
        pass
    connections["default"].connection.execute("INSERT INTO notes_note (body) VALUES ('written')")


def _closed() -> None:
    _raw("INSERT INTO notes_note (body) VALUES ('written')")()
    connections["default"].close()


def _in_function() -> None:
    _raw(
        "WITH written AS (INSERT INTO notes_note (body) VALUES ('written') RETURNING 1) "
        "SELECT count(*) FROM written"
    )()


INSERT = _raw("INSERT INTO notes_note (body) VALUES ('written')")
WRITES = {
    "insert": INSERT,
    "copy": _copy,
    "query that writes": _in_function,
    "driver": _driver,
    "connection closed by the view": _closed,
    "atomic": _atomic(INSERT),
    "copy in atomic": _atomic(_copy),
    "query that writes in atomic": _atomic(_in_function),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_way_to_write_is_noted(notes: Any, browser: Browser, write: Any) -> None:
    browser.run(write)

    assert browser.marks()["default"].timeline > 0, "no position is known"
    assert browser.run(lambda: notes.objects.get().body) == "written"


def _rolled_back() -> None:
    with transaction.atomic():
        INSERT()
        transaction.set_rollback(True)


def _only_read() -> None:
    with transaction.atomic():
        _raw("SELECT 1")()


@pytest.mark.parametrize("view", [_rolled_back, _only_read])
def test_a_transaction_that_has_not_written_leaves_no_bookmark(
    browser: Browser, view: Callable[[], None]
) -> None:
    browser.run(view)

    assert browser.cookies == {}


def test_reads_from_the_master_leave_no_bookmark(notes: Any, browser: Browser) -> None:
    def view() -> None:
        use_master()
        list(notes.objects.all())
        notes.objects.aggregate(Max("id"))
        assert not notes.objects.exists()
        assert not list(notes.objects.iterator())

    browser.run(view)

    assert browser.cookies == {}


def test_a_replica_that_is_named_may_be_used_beside_a_transaction(
    notes: Any, browser: Browser, cluster: Cluster
) -> None:
    """As with ATOMIC_REQUESTS."""

    def view() -> str:
        with transaction.atomic():
            list(notes.objects.all())
            notes.objects.using("replica").first()
            return str(connections["replica"].host)  # type: ignore[attr-defined]

    assert browser.run(view).partition(":")[0] != cluster.primary.address


def test_an_error_response_contains_the_bookmark(notes: Any) -> None:
    client = Client(raise_request_exception=False)
    response = client.post("/fails")

    assert response.status_code == 500
    assert len(response.cookies) == 1


@pytest.fixture
def revoked(cluster: Cluster) -> Iterator[str]:
    """A role that may not ask whether it has written."""
    primary = cluster.primary
    primary.sql("CREATE ROLE limited")
    primary.sql("GRANT ALL ON notes_note TO limited")
    primary.sql("GRANT ALL ON SEQUENCE notes_note_id_seq TO limited")
    primary.sql("REVOKE EXECUTE ON FUNCTION txid_current_if_assigned() FROM PUBLIC")
    yield "limited"
    primary.sql("GRANT EXECUTE ON FUNCTION txid_current_if_assigned() TO PUBLIC")
    primary.sql("DROP OWNED BY limited")
    primary.sql("DROP ROLE limited")


def test_a_write_at_an_unknown_position_is_kept_and_pins_the_client(
    notes: Any, browser: Browser, revoked: str, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> None:
        _raw(f"SET ROLE {revoked}")()
        connections["default"]._writes = Writes("default")  # type: ignore[attr-defined]
        with transaction.atomic():
            INSERT()

    with caplog.at_level(logging.WARNING, "pgstatus.django"):
        browser.run(view)

    assert browser.run(lambda: notes.objects.get()._state.db) == "default"
    assert "The role needs EXECUTE on txid_current_if_assigned()" in caplog.text


def test_a_pin_is_not_extended_by_further_writes(browser: Browser) -> None:
    def pin() -> None:
        request_notes = current_notes.get()
        assert request_notes is not None
        request_notes.pin("default")

    browser.run(pin)
    pinned_until = browser.marks()["default"].pinned_until
    for _ in range(5):
        browser.run(INSERT)

    assert browser.marks()["default"].pinned_until == pinned_until > 0


def test_reads_without_a_suitable_replica_share_an_open_connection_to_the_master(
    notes: Any, browser: Browser, cluster: Cluster
) -> None:
    """Otherwise the replica's alias opens it, because it is tried again if it cannot be opened."""

    def pin() -> None:
        request_notes = current_notes.get()
        assert request_notes is not None
        request_notes.pin("default")

    def view() -> tuple[str, str]:
        note = notes.objects.get()
        return note._state.db, host_of(note)

    master = cluster.primary.address
    notes.objects.create()
    connections.close_all()
    browser.run(pin)
    assert browser.run(view) == ("replica", master)
    with connections["default"].cursor():
        pass
    assert browser.run(view) == ("default", master)


def test_a_commit_that_would_roll_back_is_refused(notes: Any, browser: Browser) -> None:
    def view() -> None:
        with transaction.atomic():
            INSERT()
            with suppress(psycopg.Error):
                connections["default"].connection.execute("SELECT 1/0")

    with pytest.raises(TransactionManagementError, match="COMMIT would roll it back"):
        browser.run(view)
    with pytest.raises(TransactionManagementError, match="COMMIT would roll it back"):
        view()
    assert notes.objects.count() == 0


def test_a_write_of_another_thread_is_noted(notes: Any, browser: Browser) -> None:
    def view() -> None:
        context = copy_context()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(context.run, INSERT).result()
            pool.submit(connections.close_all).result()

    browser.run(view)

    assert browser.run(lambda: notes.objects.get().body) == "written"


def test_asynchronous_views_read_their_own_writes(notes: Any) -> None:
    async def requests() -> None:
        client = AsyncClient()
        for _ in range(5):
            key = (await client.get("/write")).content.decode()
            assert (await client.get(f"/async/notes/{key}")).json()["body"] == "async"

    asyncio.run(requests())


def test_the_body_of_a_streaming_response_is_routed_as_its_request(notes: Any) -> None:
    response: Any = Client().get("/stream")

    assert response.getvalue() == b"replica default"
    assert current_notes.get() is None


def test_an_asynchronous_body_is_routed_as_its_request(notes: Any) -> None:
    async def parts() -> list[bytes]:
        response: Any = await AsyncClient().get("/async/stream")
        return [part async for part in response.streaming_content]

    assert asyncio.run(parts()) == [b"replica", b"replica"]


def test_a_file_is_left_to_the_server() -> None:
    response = FileResponse(BytesIO(b"content"))
    file = response.file_to_stream

    route_body(response, Notes({}, 10))

    assert response.file_to_stream is file is not None
