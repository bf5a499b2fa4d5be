"""What is queried, as SQL.

A row consists of facts. Each is available or not on its own: a function may be revoked, missing in
an older PostgreSQL, or not supported by a service. All names are qualified, and a transaction of
our own keeps the settings of the role and the database from having an effect. PostgreSQL 10 and
newer, primaries and standbys, any role with LOGIN.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

# Insufficient privilege, undefined function, table or column, feature not supported.
UNAVAILABLE = frozenset({"42501", "42883", "42P01", "42703", "0A000"})
MAX_STANDBYS = 100


@dataclass(frozen=True, slots=True)
class Fact:
    """A part of the row."""

    name: str
    columns: tuple[str, ...]
    """Expressions over ``role``, whose column is ``in_recovery``, and the sources."""
    sources: tuple[str, ...] = field(default=(), kw_only=True)
    objects: tuple[str, ...] = field(default=(), kw_only=True)
    """What the role needs privileges for, as in GRANT."""


def _of_replica(expression: str) -> str:
    return f"CASE WHEN role.in_recovery THEN {expression} END"


def _of_master(expression: str) -> str:
    return f"CASE WHEN NOT role.in_recovery THEN {expression} END"


def _text(expression: str) -> str:
    return f"({expression})::pg_catalog.text"


def _microseconds(time: str) -> str:
    """Since 1970. An integer, because ``extra_float_digits`` has an effect on floating point."""
    return f"(extract(epoch FROM {time}) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8"


_RECEIVER = "pg_catalog.pg_stat_wal_receiver AS receiver"
_RECEIVER_OBJECTS = ("pg_stat_get_wal_receiver()", "pg_stat_wal_receiver")

ROLE = Fact(
    "role",
    ("role.in_recovery", _microseconds("pg_catalog.clock_timestamp()")),
    objects=("pg_is_in_recovery()",),
)
REPLAYED = Fact(
    "the replayed position",
    (_text(_of_replica("pg_catalog.pg_last_wal_replay_lsn()")),),
    objects=("pg_last_wal_replay_lsn()",),
)
WRITTEN = Fact(
    "the written position",
    (_text(_of_master("pg_catalog.pg_current_wal_lsn()")),),
    objects=("pg_current_wal_lsn()",),
)
# The name contains the timeline that is written from the moment of a promotion on, while the
# control file contains that of the last checkpoint.
WAL_FILE = Fact(
    "the timeline of a master",
    (_of_master("pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())"),),
    objects=("pg_walfile_name(pg_lsn)", "pg_current_wal_lsn()"),
)
REPLAY_TIME = Fact(
    "the time of the last replayed transaction",
    (_microseconds("pg_catalog.pg_last_xact_replay_timestamp()"),),
    objects=("pg_last_xact_replay_timestamp()",),
)
RECEIVED = Fact(
    "the received position",
    (_text("pg_catalog.pg_last_wal_receive_lsn()"),),
    objects=("pg_last_wal_receive_lsn()",),
)
RECEIVER = Fact(
    "the WAL receiver and its timeline",
    (
        "receiver.pid OPERATOR(pg_catalog.>) 0",
        "receiver.received_tli",
        _text("receiver.latest_end_lsn"),
    ),
    sources=(_RECEIVER,),
    objects=_RECEIVER_OBJECTS,
)
UPSTREAM = Fact(
    "the server that a replica streams from",
    ("receiver.sender_host", "receiver.sender_port"),
    sources=(_RECEIVER,),
    objects=_RECEIVER_OBJECTS,
)
SYSTEM = Fact(
    "the system identifier, by which hosts of another cluster are detected,",
    ("server.system_identifier",),
    sources=("pg_catalog.pg_control_system() AS server",),
    objects=("pg_control_system()",),
)
CONTROL = Fact(
    "the last checkpoint",
    (
        "control.timeline_id",
        _text("control.checkpoint_lsn"),
        _microseconds("control.checkpoint_time"),
        "control.next_xid",
    ),
    sources=("pg_catalog.pg_control_checkpoint() AS control",),
    objects=("pg_control_checkpoint()",),
)
RECOVERY = Fact(
    "the timeline of a replica without a WAL receiver",
    (_of_replica("recovery.min_recovery_end_timeline"),),
    sources=("pg_catalog.pg_control_recovery() AS recovery",),
    objects=("pg_control_recovery()",),
)
# The functions of the view pg_stat_replication; it costs five times as much, because it is planned
# with the names of roles.
_STANDBY_LINES = rf"""(
    SELECT pg_catalog.string_agg(pg_catalog.concat(pg_catalog.host(a.client_addr), E'\t',
           a.application_name, E'\t', s.state, E'\t', s.sync_state), E'\n' ORDER BY s.pid)
      FROM (SELECT * FROM pg_catalog.pg_stat_get_wal_senders() LIMIT {MAX_STANDBYS}) AS s,
           pg_catalog.pg_stat_get_activity(s.pid) AS a)"""  # noqa: S608  # constants
STANDBYS = Fact(
    "the standbys of a server",
    (_STANDBY_LINES,),
    objects=("pg_stat_get_wal_senders()", "pg_stat_get_activity(integer)"),
)
# Behind address translation (a Kubernetes service, for example) this is the address by which the
# other servers know it.
ADDRESS = Fact(
    "the own address of a server",
    ("pg_catalog.host(pg_catalog.inet_server_addr())",),
    objects=("inet_server_addr()",),
)
# Amazon Aurora: its storage takes the place of streaming replication, and has positions of its own.
_AURORA_SOURCE = """(
    SELECT (CASE WHEN session_id OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID'
                 THEN durable_lsn ELSE current_read_lsn END)::pg_catalog.int8 AS lsn
      FROM pg_catalog.aurora_replica_status()
     WHERE server_id OPERATOR(pg_catalog.=) pg_catalog.aurora_db_instance_identifier()) AS aurora"""
AURORA = Fact("the position in Aurora's storage", ("aurora.lsn",), sources=(_AURORA_SOURCE,))

FACTS = (
    ROLE, REPLAYED, WRITTEN, WAL_FILE, REPLAY_TIME, RECEIVED, RECEIVER, UPSTREAM, SYSTEM, CONTROL,
    RECOVERY, STANDBYS, ADDRESS,
)  # fmt: skip

POSITION = (
    "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text"
)


def select(facts: Collection[Fact]) -> str:
    """The query for these facts."""
    columns = ", ".join(column for fact in facts for column in fact.columns)
    sources = dict.fromkeys(source for fact in facts for source in fact.sources)
    joins = "".join(f" LEFT JOIN {source} ON true" for source in sources)
    # OFFSET keeps pg_is_in_recovery() from being evaluated twice, with a promotion in between.
    return (
        f"SELECT {columns} FROM "  # noqa: S608  # constants
        f"(SELECT pg_catalog.pg_is_in_recovery() AS in_recovery OFFSET 0) AS role{joins}"
    )


def in_transaction(query: str) -> str:
    """The query, independent of the defaults of the role and the database."""
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = 0; "
        f"{query}; COMMIT"
    )


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def grants(fact: Fact, message: str, role: str) -> Iterator[str]:
    """The commands that grant what the server's message names; for all objects if it names none."""
    named = [name for name in fact.objects if name.partition("(")[0] in message]
    for name in named or fact.objects:
        privilege = f"EXECUTE ON FUNCTION {name}" if name.endswith(")") else f"SELECT ON {name}"
        yield f"GRANT {privilege} TO {role};"
