"""The limits on connections that apply to the monitoring role, as SQL. Only `pg-status check`
queries them.

Any role with LOGIN can read them: the server hides the details of other sessions, not their number.
"""

from pgstatus.core.connections import Usage, raised
from pgstatus.errors import in_a_line
from pgstatus.monitor.facts import quoted
from pgstatus.monitor.session import Values

_INTEGERS_END = 2**31
_NONE = b"-1"

# Background workers and WAL senders have slots of their own. The type of other roles' sessions is
# hidden (null), but a physical WAL sender has no database.
_COUNT = """(
    SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS other
     WHERE {condition} AND other.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
       AND COALESCE(other.backend_type OPERATOR(pg_catalog.=) 'client backend',
                    other.usesysid IS NOT NULL AND other.datid IS NOT NULL))"""
_QUERY = """
    SELECT pg_catalog.pg_backend_pid(), {subject}, {count}, {limit}
      FROM pg_catalog.pg_roles AS role, pg_catalog.pg_database AS db
     WHERE role.rolname OPERATOR(pg_catalog.=) session_user
       AND db.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"""

# Superusers are subject to neither of these two limits.
_ROLE = _QUERY.format(
    subject="role.rolname",
    count=_COUNT.format(condition="other.usesysid OPERATOR(pg_catalog.=) role.oid"),
    limit="CASE WHEN NOT role.rolsuper THEN role.rolconnlimit END",
)
_DATABASE = _QUERY.format(
    subject="db.datname",
    count=_COUNT.format(condition="other.datid OPERATOR(pg_catalog.=) db.oid"),
    limit="CASE WHEN NOT role.rolsuper THEN db.datconnlimit END",
)


def _setting(name: str) -> str:
    return f"COALESCE(pg_catalog.current_setting('{name}', true)::pg_catalog.int4, 0)"


# reserved_connections and pg_use_reserved_connections: PostgreSQL 16.
_MAY_USE_RESERVED = """EXISTS (
    SELECT FROM pg_catalog.pg_roles AS reserved
     WHERE reserved.rolname OPERATOR(pg_catalog.=) 'pg_use_reserved_connections'
       AND pg_catalog.pg_has_role(role.oid, reserved.oid, 'USAGE'))"""
_SERVER = _QUERY.format(
    subject="NULL",
    count=_COUNT.format(condition="true"),
    limit=f"""{_setting("max_connections")} OPERATOR(pg_catalog.-)
        CASE WHEN role.rolsuper THEN 0
             ELSE {_setting("superuser_reserved_connections")} OPERATOR(pg_catalog.+)
                  CASE WHEN {_MAY_USE_RESERVED} THEN 0 ELSE {_setting("reserved_connections")} END
        END""",
)

QUERIES = {
    "role": _ROLE,
    "database": _DATABASE,
    "server": _SERVER,
}
"""The query for each kind of limit."""


def usage_of(kind: str, values: Values, server_pid: int) -> Usage | None:
    """The row of a query on the connection to process ``server_pid``; ValueError if it is invalid.

    None: there is no limit, or the connection is that of a pooler, whose limits are not these.
    """
    if len(values) != 4:
        raise ValueError(f"expected 4 columns, got {len(values)}")
    name = values[1]
    pid, used, limit = (int(values[i] or _NONE) for i in (0, 2, 3))
    if limit < 0 or pid != server_pid:
        return None
    if used < 0 or max(used, limit) >= _INTEGERS_END:
        raise ValueError(f"expected numbers of connections, got {used} and {limit}")
    if name is None:
        return Usage("server", used, limit)
    text = name.decode()
    command = f"ALTER {kind.upper()} {quoted(text)} CONNECTION LIMIT {raised(limit)};"
    return Usage(in_a_line(f"{kind} {text}"), used, limit, in_a_line(command))
