"""The middleware for Starlette, as a class and as a dispatch function."""

from pgstatus.sqlalchemy.starlette_utils.http_middleware import (
    StarletteHTTPDBSessionMiddleware,
    add_starlette_http_db_session_middleware,
    starlette_http_db_session_middleware,
)

__all__ = [
    "StarletteHTTPDBSessionMiddleware",
    "add_starlette_http_db_session_middleware",
    "starlette_http_db_session_middleware",
]
