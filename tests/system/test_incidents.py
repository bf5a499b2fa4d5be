"""What happened to users of PostgreSQL, tried with a probe on real servers of several versions.

Each test is an example of a class of faults. The decisions that follow from the results are tested
in tests/unit; the daemon as a whole in test_failover.py.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import resource
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, LiteralString

import psycopg
import pytest

from pgstatus.core.snapshot import Failure, Observation
from pgstatus.demo.cluster import Cluster, Server
from pgstatus.demo.network import Network
from pgstatus.errors import Cause, CheckError
from pgstatus.monitor.prober import outcome
from tests.conftest import POSTGRES, ClusterFactory, Clusters
from tests.support.flood import FLOODS, flooding
from tests.support.liar import GREETING, honest, liar
from tests.support.probing import Result, check_until, longest_gap, probing, target
from tests.support.waiting import wait_until

DEBIAN = "/usr/lib/postgresql/15/bin"
VERSIONS = list(dict.fromkeys([*([DEBIAN] if Path(DEBIAN).exists() else []), *POSTGRES]))


@pytest.fixture(scope="module", params=VERSIONS)
def cluster(request: pytest.FixtureRequest, session_clusters: Clusters) -> Cluster:
    """A primary and a replica, and a role that may log in and nothing else."""
    cluster = session_clusters.make(request.param, replicas=1)
    cluster.primary.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    settle(cluster)
    return cluster


def settle(cluster: Cluster) -> None:
    """Wait until the replicas have replayed what the primary has written."""
    lsn = cluster.primary.lsn()
    wait_until("it is replayed", lambda: all(r.lsn() >= lsn for r in cluster.replicas))


NOTICEABLE = 0.25
"""Seconds. A login or a read that blocked the event loop would take more than this."""
WATCHER = {"user": "watcher", "password": "watcher"}


def admits(value: bool) -> Any:
    return lambda result: isinstance(result, Observation) and result.admits is value


def test_exhausted_slots_do_not_end_a_working_connection(make_cluster: ClusterFactory) -> None:
    server = make_cluster(replicas=0).primary
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher' CONNECTION LIMIT 3")
    conninfo = f"{server.conninfo} user=watcher password=watcher"

    async def run() -> None:
        async with probing(server, max_age=0.2, **WATCHER) as probe:
            assert (await probe.check()).admits
            with ExitStack() as stack:
                for _ in range(2):
                    stack.enter_context(psycopg.connect(conninfo))
                results = await check_until(probe, "it is rejected", admits(False))
                # Beyond the age at which the connection is normally replaced.
                for _ in range(20):
                    results.append(await probe.check())
                    await asyncio.sleep(0.05)
                assert all(isinstance(result, Observation) for result in results)
                refusal = results[-1].refusal  # type: ignore[union-attr]
                assert re.search("too many connections for role", refusal or "")
            await check_until(probe, "it is accepted again", admits(True))

    asyncio.run(run())


def test_a_changed_password_does_not_end_a_working_connection(cluster: Cluster) -> None:
    server = cluster.primary
    server.sql("CREATE ROLE changing LOGIN PASSWORD 'first'")

    async def run() -> None:
        login = {"user": "changing", "password": "first"}
        async with probing(server, max_age=0.2, **login) as probe:
            await probe.check()
            await asyncio.to_thread(server.sql, "ALTER ROLE changing PASSWORD 'second'")
            results = await check_until(probe, "it is rejected", admits(False))
            assert all(isinstance(result, Observation) for result in results)
            assert isinstance(results[-1], Observation)
            assert "password authentication failed" in (results[-1].refusal or "")
            assert "28P01" not in (results[-1].refusal or "")

    asyncio.run(run())


@pytest.mark.parametrize("postgres", VERSIONS)
def test_a_smart_shutdown_is_not_delayed(make_cluster: ClusterFactory, postgres: str) -> None:
    server = make_cluster(postgres, replicas=0).primary

    async def run() -> None:
        async with probing(server, max_age=0.5) as probe:
            await probe.check()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop, signal.SIGTERM))
            # A login that the server closes at its very end fails without a reason.
            await check_until(probe, "it is down", lambda r: isinstance(r, Failure) and r.down)
            async with asyncio.timeout(10):
                await stopping
            results = await check_until(
                probe, "it is refused", lambda r: isinstance(r, Failure) and "refused" in r.message
            )
            assert isinstance(results[-1], Failure)
            assert results[-1].down

    asyncio.run(run())


SETTINGS: list[LiteralString] = [
    "default_transaction_isolation = 'serializable'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "statement_timeout = '100ms'",
    "extra_float_digits = -15",
    "datestyle = 'SQL, DMY'",
    "timezone = 'Asia/Kathmandu'",
    "client_encoding = 'LATIN1'",
    "search_path = evil, pg_catalog",
    "standard_conforming_strings = off",
    "escape_string_warning = on",
    "transform_null_equals = on",
    "array_nulls = off",
    "plan_cache_mode = 'force_generic_plan'",
]


def test_settings_of_the_role_have_no_effect(cluster: Cluster) -> None:
    server = cluster.primary
    server.sql("CREATE ROLE configured LOGIN PASSWORD 'watcher'")
    server.sql("CREATE SCHEMA evil")
    server.sql("GRANT USAGE ON SCHEMA evil TO PUBLIC")
    for function, kind in (
        ("pg_is_in_recovery()", "boolean"),
        ("pg_last_wal_replay_lsn()", "pg_lsn"),
        ("pg_current_wal_lsn()", "pg_lsn"),
        ("pg_walfile_name(pg_lsn)", "text"),
        ("clock_timestamp()", "timestamptz"),
        ("concat(VARIADIC text[])", "text"),
        ("host(inet)", "text"),
    ):
        server.sql(
            f"CREATE FUNCTION evil.{function} RETURNS {kind} LANGUAGE sql AS 'SELECT NULL::{kind}'"
        )
    server.sql("CREATE FUNCTION evil.times(numeric, integer) RETURNS numeric LANGUAGE sql "
               "AS 'SELECT 0::numeric'")  # fmt: skip
    server.sql("CREATE OPERATOR evil.* (FUNCTION = evil.times, LEFTARG = numeric, RIGHTARG = int)")
    for view in ("pg_stat_wal_receiver", "pg_stat_replication"):
        server.sql(f"CREATE VIEW evil.{view} AS SELECT 1 AS pid")
    for setting in SETTINGS:
        server.sql(f"ALTER ROLE configured SET {setting}")
    settle(cluster)

    async def run() -> None:
        for server in cluster.servers:
            async with (
                probing(server, **WATCHER) as plain,
                probing(server, user="configured", password="watcher") as configured,
            ):
                expected, found = await plain.check(), await configured.check()
                for name in ("in_recovery", "lsn", "timeline", "receiving", "system_identifier",
                             "replayed_at", "received_lsn", "standbys", "checkpoint"):  # fmt: skip
                    assert getattr(found, name) == getattr(expected, name), name
                assert abs(found.host_time - expected.host_time) < 5
                position = await configured.position()
                assert position.in_recovery is expected.in_recovery

    asyncio.run(run())


REVOKED = {
    "FUNCTION pg_last_wal_replay_lsn()": ["lsn"],
    "FUNCTION pg_current_wal_lsn()": [],
    "FUNCTION pg_walfile_name(pg_lsn)": [],
    "FUNCTION pg_last_xact_replay_timestamp()": ["replayed_at"],
    "FUNCTION pg_last_wal_receive_lsn()": ["received_lsn"],
    "FUNCTION pg_control_system()": ["system_identifier"],
    "FUNCTION pg_control_checkpoint()": ["control_timeline", "checkpoint"],
    "FUNCTION pg_control_recovery()": [],
    "FUNCTION pg_stat_get_wal_receiver()": ["timeline", "upstream", "upstream_lsn"],
    "pg_stat_wal_receiver": ["timeline", "upstream", "upstream_lsn"],
    "FUNCTION pg_stat_get_wal_senders()": ["standbys"],
}
"""Privilege → what becomes unknown of a replica."""


def test_each_fact_is_unavailable_on_its_own_and_available_after_a_grant(
    cluster: Cluster,
) -> None:
    primary, (replica,) = cluster.primary, cluster.replicas
    primary.sql("CREATE ROLE reader LOGIN PASSWORD 'watcher'")
    primary.sql("GRANT pg_monitor TO reader")
    primary.sql("SELECT pg_logical_emit_message(true, '', '')")
    settle(cluster)
    fields = sorted({name for names in REVOKED.values() for name in names} - {"replayed_at"})

    async def run() -> None:
        login = {"user": "reader", "password": "watcher"}
        async with (
            probing(replica, max_age=0.1, **login) as probe,
            probing(primary, max_age=0.1, **login) as other,
        ):
            for privilege, unknown in REVOKED.items():
                kind = "EXECUTE" if privilege.startswith("FUNCTION") else "SELECT"
                revoke = f"REVOKE {kind} ON {privilege} FROM PUBLIC, pg_monitor"
                primary.sql(revoke)
                settle(cluster)
                seen, written = await probe.check(), await other.check()
                missing = [name for name in fields if getattr(seen, name) is None]
                assert missing == sorted(set(unknown) - {"replayed_at"}), privilege
                assert not written.in_recovery
                remedy = next(s.remedy for s in probe.shortcomings if privilege in s.remedy)
                primary.sql(remedy.replace('"reader"', "PUBLIC"))
                settle(cluster)
                for _ in range(8):  # several connections
                    seen = await probe.check()
                    await asyncio.sleep(0.05)
                assert not [name for name in fields if getattr(seen, name) is None], privilege
            assert other.shortcomings

    asyncio.run(run())


def test_without_the_role_of_a_host_the_check_fails_and_the_grant_is_printed(
    cluster: Cluster,
) -> None:
    cluster.primary.sql("REVOKE EXECUTE ON FUNCTION pg_is_in_recovery() FROM PUBLIC")
    settle(cluster)

    async def run() -> None:
        async with probing(cluster.replicas[0], **WATCHER) as probe:
            with pytest.raises(CheckError, match="permission denied for function"):
                await probe.check()
            [shortcoming] = probe.shortcomings
            grant = 'GRANT EXECUTE ON FUNCTION pg_is_in_recovery() TO "watcher";'
            assert shortcoming.remedy == grant

    try:
        asyncio.run(run())
    finally:
        cluster.primary.sql("GRANT EXECUTE ON FUNCTION pg_is_in_recovery() TO PUBLIC")
        settle(cluster)


def test_functions_that_a_service_does_not_support(make_cluster: ClusterFactory) -> None:
    """As in Amazon Aurora, whose own function exists in their place."""
    server = make_cluster(replicas=0).primary
    body = "BEGIN RAISE 'not supported for Aurora' USING ERRCODE = '0A000'; END"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("SET allow_system_table_mods = on")
        for function, kind in (
            ("pg_last_wal_replay_lsn()", "pg_lsn"),
            ("pg_current_wal_lsn()", "pg_lsn"),
            ("pg_walfile_name(lsn pg_lsn)", "text"),
            ("pg_last_wal_receive_lsn()", "pg_lsn"),
        ):
            name = function.partition("(")[0]
            connection.execute(f"ALTER FUNCTION pg_catalog.{name} RENAME TO {name}_original")
            connection.execute(
                f"CREATE FUNCTION pg_catalog.{function} RETURNS {kind} "
                f"LANGUAGE plpgsql AS $${body}$$"
            )

        async def check() -> Observation:
            async with probing(server) as probe:
                seen = await probe.check()
                assert (await probe.position()).lsn == seen.lsn
                return seen

        seen = asyncio.run(check())
        assert (seen.in_recovery, seen.lsn, seen.timeline) == (False, None, None)
        assert seen.system_identifier is not None
        connection.execute(
            "CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text "
            "LANGUAGE sql AS $$SELECT 'one'$$"
        )
        connection.execute(
            "CREATE FUNCTION pg_catalog.aurora_replica_status() RETURNS TABLE(server_id text, "
            "session_id text, durable_lsn bigint, current_read_lsn bigint) LANGUAGE sql "
            "AS $$VALUES ('one', 'MASTER_SESSION_ID', 700::bigint, NULL::bigint)$$"
        )
        assert asyncio.run(check()).lsn == 700


def test_a_column_that_an_older_version_does_not_have(make_cluster: ClusterFactory) -> None:
    """As in PostgreSQL 10, whose view has no column sender_host."""
    cluster = make_cluster(replicas=1)
    (replica,) = cluster.replicas
    with psycopg.connect(cluster.primary.conninfo, autocommit=True) as connection:
        connection.execute("SET allow_system_table_mods = on")
        connection.execute(
            "ALTER VIEW pg_catalog.pg_stat_wal_receiver RENAME COLUMN sender_host TO other"
        )
    settle(cluster)

    async def run() -> None:
        async with probing(replica) as probe:
            seen = await probe.check()
            assert (seen.timeline, seen.upstream, seen.receiving) == (1, None, True)
            assert probe.shortcomings == ()

    asyncio.run(run())


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str] | OSError]:
    """A resolver: names and their addresses, or the error of the lookup."""
    entries: dict[str, list[str] | OSError] = {}
    real = socket.getaddrinfo

    def resolve(name: str, *arguments: Any, **options: Any) -> Any:
        found = entries.get(name)
        if isinstance(found, OSError):
            raise found
        if found is None:
            return real(name, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (a, 0)) for a in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("pgstatus.monitor.resolver._LOOKUP_EVERY", 0.1)
    return entries


def test_a_name_that_moves_is_followed(
    cluster: Cluster, names: dict[str, list[str] | OSError]
) -> None:
    old, new = cluster.primary, cluster.replicas[0]
    names["db.example"] = [old.address]

    async def run() -> None:
        async with probing(target("db.example", old.port)) as probe:
            assert not (await probe.check()).in_recovery
            names["db.example"] = OSError("the name server does not respond")
            for _ in range(10):
                assert not (await probe.check()).in_recovery
                await asyncio.sleep(0.05)
            names["db.example"] = [new.address, old.address]
            for _ in range(10):
                seen = await probe.check()
                await asyncio.sleep(0.05)
            assert not seen.in_recovery
            assert seen.addresses == {old.address, new.address}
            names["db.example"] = [new.address]
            results = await check_until(
                probe, "the new server", lambda r: isinstance(r, Observation) and r.in_recovery
            )
            assert all(isinstance(result, Observation) for result in results)
            assert isinstance(results[-1], Observation)
            assert results[-1].addresses == {new.address}

    asyncio.run(run())


def test_a_failed_lookup_is_a_refusal_and_no_failure(
    cluster: Cluster, names: dict[str, list[str] | OSError]
) -> None:
    names["db.example"] = [cluster.primary.address]

    async def run() -> None:
        async with probing(target("db.example", cluster.primary.port, max_age=0.2)) as probe:
            await probe.check()
            names["db.example"] = OSError("the name server does not respond")
            results = await check_until(probe, "it is reported", admits(False))
            assert all(isinstance(result, Observation) for result in results)
            assert isinstance(results[-1], Observation)
            assert "cannot resolve the host name" in (results[-1].refusal or "")

    asyncio.run(run())


def test_all_addresses_of_a_name_are_reported_the_informative_first(
    cluster: Cluster, network: Network, names: dict[str, list[str] | OSError]
) -> None:
    closed, server = network.address(251), cluster.primary
    names["db.example"] = [closed, server.address]

    async def run() -> None:
        login = {"user": "watcher", "password": "wrong"}
        async with probing(target("db.example", server.port, **login)) as probe:
            with pytest.raises(CheckError) as caught:
                await probe.check()
        assert str(caught.value) == (
            f'{server.address}: FATAL:  password authentication failed for user "watcher"; '
            f"{closed}: Connection refused"
        )
        assert caught.value.cause is Cause.REJECTED
        assert not caught.value.down

    asyncio.run(run())


def scram_verifier(password: str, iterations: int) -> str:
    """What the server stores of a password. Source: RFC 5802, section 3, and RFC 7677."""
    salt = b"a salt of a test"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key, server_key = (hmac.digest(salted, key, "sha256") for key in _SCRAM_KEYS)
    parts = salt, hashlib.sha256(client_key).digest(), server_key
    encoded = [base64.b64encode(part).decode() for part in parts]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


_SCRAM_KEYS = b"Client Key", b"Server Key"


def test_a_login_that_blocks_harms_no_other_host(make_cluster: ClusterFactory) -> None:
    """The server chooses the iterations of SCRAM; libpq computes them without a pause."""
    cluster = make_cluster(replicas=1)
    server, other = cluster.servers
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'watcher'")
    # Servers since PostgreSQL 16 can compute it themselves (scram_iterations).
    server.sql(f"CREATE ROLE slow LOGIN PASSWORD '{scram_verifier('watcher', 800_000)}'")

    async def run() -> None:
        limits = {"connect_timeout": 0.3, "query_timeout": 0.5}
        login = {"user": "slow", "password": "watcher"}
        async with probing(server, **limits, **login) as slow, probing(other) as healthy:
            await healthy.check()
            threads = threading.active_count()

            async def fail() -> None:
                for _ in range(3):
                    with pytest.raises(CheckError, match="no connection within"):
                        await slow.check()

            failing = asyncio.create_task(fail())
            assert await longest_gap(healthy) < NOTICEABLE
            await failing
            assert threading.active_count() <= threads + 1

    asyncio.run(run())


def test_an_aged_connection_ends_after_its_replacement_has_begun(cluster: Cluster) -> None:
    server: Server = cluster.primary
    sessions: LiteralString = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aged'"
    seen: set[Any] = set()

    async def run() -> None:
        async with probing(server, max_age=0.1, application_name="aged", **WATCHER) as probe:
            while len(seen) < 5:
                await probe.check()
                found = await asyncio.to_thread(server.sql, sessions)
                assert found
                seen.update(found)
                await asyncio.sleep(0.02)
            await asyncio.to_thread(
                wait_until, "the others have ended", lambda: len(server.sql(sessions)) == 1
            )

    asyncio.run(run())


@pytest.fixture(scope="module")
def one_server(session_clusters: Clusters) -> Server:
    return session_clusters.make(replicas=0).primary


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_costs_bounded_memory_and_delays_no_other_host(
    one_server: Server, network: Network, flood: str
) -> None:
    address = network.address(252)

    async def run(port: int) -> None:
        limits = {"connect_timeout": 0.5, "query_timeout": 0.5}
        async with probing(target(address, port, **limits)) as bad, probing(one_server) as healthy:
            await healthy.check()
            results: list[Result] = []
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

            async def check() -> None:
                while True:
                    results.append(await outcome(bad))
                    await asyncio.sleep(0.05)

            checking = asyncio.create_task(check())
            assert await longest_gap(healthy) < NOTICEABLE
            checking.cancel()
            assert len(results) > 3
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024  # KiB
            if flood != "unsolicited":
                assert all(isinstance(result, Failure) for result in results)

    with flooding(flood, address) as port:
        asyncio.run(run(port))


def test_a_server_that_ends_each_session_is_not_logged_in_to_repeatedly(network: Network) -> None:
    logins: list[BinaryIO] = []

    def end(client: BinaryIO) -> None:
        logins.append(client)
        client.write(GREETING)
        raise OSError

    async def run(port: int) -> None:
        async with probing(target(network.address(252), port)) as probe:
            for _ in range(5):
                with pytest.raises(CheckError, match="closed the connection"):
                    await probe.check()

    with liar(network.address(252), honest(), end) as port:
        asyncio.run(run(port))
    assert len(logins) <= 5
