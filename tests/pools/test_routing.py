"""The rules that the pools share."""

import asyncio

import asyncpg
import psycopg
import pytest

from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.client import AsyncPgStatusClient, PgStatusClient
from pgstatus.routing import reads, reads_async
from pgstatus.routing.failures import cannot_connect, is_transient, retires
from pgstatus.routing.following import MASTER, NamedHosts, Question
from tests.client.support import Server

A, B, C = ("a", 5432), ("b", 5432), ("c", 5432)
REPLICA = Question("replica", lag_ms=500)


def test_hosts_that_leave() -> None:
    hosts = NamedHosts()
    assert hosts.left(MASTER, [A]) == set()
    assert hosts.left(REPLICA, [B, C]) == set()
    assert hosts.left(REPLICA, [C]) == {B}
    assert hosts.left(Question("replica"), [B, C]) == set()
    assert hosts.left(REPLICA, [B]) == set()  # C is named by the other answer


def test_the_master_changes() -> None:
    """The new one keeps its pool, the old one does not, even if it is a replica now."""
    hosts = NamedHosts()
    hosts.left(MASTER, [A])
    hosts.left(REPLICA, [B])
    assert hosts.left(REPLICA, [A]) == {B}
    assert hosts.left(MASTER, [B]) == {A}


def test_an_answer_without_hosts() -> None:
    hosts = NamedHosts()
    hosts.left(MASTER, [A])
    assert hosts.left(MASTER, []) == set()
    assert hosts.left(MASTER, [A]) == set()
    assert hosts.left(MASTER, [B]) == {A}


@pytest.mark.parametrize(
    ("error", "on_master", "on_replica"),
    [
        (psycopg.errors.ReadOnlySqlTransaction(), True, False),
        (asyncpg.ReadOnlySQLTransactionError(), True, False),
        (psycopg.errors.AdminShutdown(), True, True),
        (asyncpg.CrashShutdownError(), True, True),
        (asyncpg.ConnectionDoesNotExistError(), True, True),
        (ConnectionResetError(), True, True),
        (psycopg.errors.UniqueViolation(), False, False),
        (psycopg.OperationalError(), False, False),
        (TimeoutError(), False, False),
    ],
)
def test_errors_of_statements(error: Exception, on_master: bool, on_replica: bool) -> None:
    assert retires(error, is_master=True) == on_master
    assert retires(error, is_master=False) == on_replica


def test_a_closed_connection() -> None:
    assert retires(psycopg.OperationalError("closed"), is_master=False, is_closed=True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (psycopg.errors.ConnectionTimeout(), True),
        (psycopg.OperationalError("connection failed: Connection refused"), True),
        (asyncpg.CannotConnectNowError(), True),
        (asyncpg.InvalidPasswordError(), False),
        (asyncpg.TooManyConnectionsError(), False),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), False),
    ],
)
def test_errors_of_connecting(error: Exception, expected: bool) -> None:
    assert cannot_connect(error) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), True),
        (psycopg.OperationalError("refused\n\tIs the server running on that host"), True),
        (psycopg.OperationalError("failed to resolve host 'pg1'"), True),
        (psycopg.OperationalError("FATAL:  the database system is starting up"), True),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), True),
        (asyncpg.TooManyConnectionsError(), True),
        (asyncpg.InvalidPasswordError(), False),
        (psycopg.OperationalError('FATAL:  database "app" does not exist'), False),
        (psycopg.OperationalError("fe_sendauth: no password supplied"), False),
        (psycopg.OperationalError("server does not support SSL, but SSL was required"), False),
        (psycopg.ProgrammingError('invalid connection option "hots"'), False),
    ],
)
def test_attempts_that_may_succeed_later(error: Exception, expected: bool) -> None:
    assert is_transient(error) == expected


def test_a_pg_status_that_ignores_positions(server: Server) -> None:
    """Its replica may be older than the bookmark: the master is requested."""
    mark = Bookmark(1, "1/0")

    async def choose() -> None:
        async with AsyncPgStatusClient(server.url, watch=False, deadline=10.0) as client:
            await reads_async.choose(client, REPLICA, mark)

    asyncio.run(choose())
    with PgStatusClient(server.url, watch=False, deadline=10.0) as client:
        reads.choose(client, REPLICA, mark)
    paths = [request.split()[1] for request in server.requests]
    assert paths == ["/replica?lag_ms=500&min_lsn=1%3A1%2F0", "/master"] * 2
