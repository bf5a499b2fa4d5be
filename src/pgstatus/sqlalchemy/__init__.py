"""SQLAlchemy sessions in the request's context, on the host that pg-status names.

The session API has the names and the behaviour of context-async-sqlalchemy 2, so that programs
written for it run with their import lines changed. Sessions that follow the cluster and reading
one's own writes are additions.
"""

try:
    import itsdangerous as _itsdangerous  # noqa: F401
    import sqlalchemy.ext.asyncio as _sqlalchemy  # noqa: F401
except ImportError as error:
    raise ImportError(
        "pgstatus.sqlalchemy needs the extra 'sqlalchemy': "
        "pip install 'pg-status-client[sqlalchemy]'"
    ) from error

from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.sqlalchemy.asgi_utils import ASGIHTTPDBSessionMiddleware
from pgstatus.sqlalchemy.auto_commit import (
    BeforeCommitCallback,
    auto_commit_by_status_code,
    close_all_sessions,
    commit_all_sessions,
    rollback_all_sessions,
)
from pgstatus.sqlalchemy.cluster import PgStatusCluster, PgStatusConnect
from pgstatus.sqlalchemy.connect import DBConnect
from pgstatus.sqlalchemy.context import (
    ContextAlreadyInitiatedError,
    ContextNotInitiatedError,
    get_db_session_from_context,
    init_db_session_ctx,
    is_context_initiated,
    pop_db_session_from_context,
    put_db_session_to_context,
    reset_db_session_ctx,
)
from pgstatus.sqlalchemy.read_your_writes import ReadYourWritesMiddleware
from pgstatus.sqlalchemy.run_in_new_context import run_in_new_ctx
from pgstatus.sqlalchemy.session import (
    atomic_db_session,
    close_db_session,
    commit_db_session,
    db_session,
    new_non_ctx_atomic_session,
    new_non_ctx_session,
    rollback_db_session,
    use_master,
)

__all__ = [
    "ASGIHTTPDBSessionMiddleware",
    "BeforeCommitCallback",
    "Bookmark",
    "ContextAlreadyInitiatedError",
    "ContextNotInitiatedError",
    "DBConnect",
    "PgStatusCluster",
    "PgStatusConnect",
    "ReadYourWritesMiddleware",
    "atomic_db_session",
    "auto_commit_by_status_code",
    "close_all_sessions",
    "close_db_session",
    "commit_all_sessions",
    "commit_db_session",
    "db_session",
    "get_db_session_from_context",
    "init_db_session_ctx",
    "is_context_initiated",
    "new_non_ctx_atomic_session",
    "new_non_ctx_session",
    "pop_db_session_from_context",
    "put_db_session_to_context",
    "reset_db_session_ctx",
    "rollback_all_sessions",
    "rollback_db_session",
    "run_in_new_ctx",
    "use_master",
]
