"""The sessions of `pgstatus.sqlalchemy` for threads and WSGI frameworks, such as Flask.

The names and their behaviour are those of the asynchronous package.
"""

from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.sqlalchemy.sync.auto_commit import (
    BeforeCommitCallback,
    auto_commit_by_status_code,
    close_all_sessions,
    commit_all_sessions,
    rollback_all_sessions,
)
from pgstatus.sqlalchemy.sync.cluster import PgStatusCluster, PgStatusConnect
from pgstatus.sqlalchemy.sync.connect import DBConnect
from pgstatus.sqlalchemy.sync.context import (
    ContextAlreadyInitiatedError,
    ContextNotInitiatedError,
    get_db_session_from_context,
    init_db_session_ctx,
    is_context_initiated,
    pop_db_session_from_context,
    put_db_session_to_context,
    reset_db_session_ctx,
)
from pgstatus.sqlalchemy.sync.middleware import WSGIDBSessionMiddleware
from pgstatus.sqlalchemy.sync.read_your_writes import WSGIReadYourWritesMiddleware
from pgstatus.sqlalchemy.sync.run_in_new_context import run_in_new_ctx, submit_in_new_ctx
from pgstatus.sqlalchemy.sync.session import (
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
    "BeforeCommitCallback",
    "Bookmark",
    "ContextAlreadyInitiatedError",
    "ContextNotInitiatedError",
    "DBConnect",
    "PgStatusCluster",
    "PgStatusConnect",
    "WSGIDBSessionMiddleware",
    "WSGIReadYourWritesMiddleware",
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
    "submit_in_new_ctx",
    "use_master",
]
