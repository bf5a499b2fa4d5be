"""The statements that find out whether a transaction has written, and up to which position.

They work on PostgreSQL 10 and newer and need no more than EXECUTE for PUBLIC, as in a default
installation.
"""

from pgstatus.bookmarks.bookmark import Bookmark

# The newer pg_current_xact_id_if_assigned() needs PostgreSQL 13.
HAS_WRITTEN = "SELECT 1 WHERE pg_catalog.txid_current_if_assigned() IS NOT NULL"
"""One row if the open transaction has written; to be asked before the commit."""

# The timeline is part of the name of the WAL file, which any role may request.
POSITION = (
    "SELECT p::pg_catalog.text, pg_catalog.substr(pg_catalog.pg_walfile_name(p), 1, 8)"
    " FROM pg_catalog.pg_current_wal_insert_lsn() AS p"
)
"""The position that covers everything committed so far; to be asked *after* the commit: the
position before it does not cover the commit record, and a replica past it can still lack the rows.
"""

# insufficient_privilege
_DENIED = "42501"
REQUIRED = "txid_current_if_assigned(), pg_current_wal_insert_lsn() and pg_walfile_name(pg_lsn)"
"""The functions that the role must be allowed to execute."""

ON_REPLICA = "a replica has no position of its own: call bookmark() on a connection of master()"
"""The explanation of SQLSTATE 55000 for `POSITION`."""


def hint(sqlstate: str) -> str:
    """What to add to the message of such an error of these statements; may be empty."""
    return f" The role needs EXECUTE on {REQUIRED}." if sqlstate == _DENIED else ""


def bookmark(lsn: str, timeline: str) -> Bookmark:
    """From a row of `POSITION`."""
    return Bookmark(int(timeline, 16), lsn)
