"""The middleware for FastAPI: Starlette's, with names of its own."""

from fastapi import FastAPI

from pgstatus.sqlalchemy.auto_commit import BeforeCommitCallback
from pgstatus.sqlalchemy.starlette_utils.http_middleware import (
    add_starlette_http_db_session_middleware,
    starlette_http_db_session_middleware,
)

__all__ = ["add_fastapi_http_db_session_middleware", "fastapi_http_db_session_middleware"]

fastapi_http_db_session_middleware = starlette_http_db_session_middleware


def add_fastapi_http_db_session_middleware(
    app: FastAPI, before_commit: BeforeCommitCallback | None = None
) -> None:
    """Add the middleware to ``app``."""
    add_starlette_http_db_session_middleware(app, before_commit)
