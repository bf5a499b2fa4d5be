"""The middleware for every ASGI framework."""

from pgstatus.sqlalchemy.asgi_utils.middleware import (
    ASGIApp,
    ASGIHTTPDBSessionMiddleware,
    Message,
    Receive,
    Scope,
    Send,
)

__all__ = ["ASGIApp", "ASGIHTTPDBSessionMiddleware", "Message", "Receive", "Scope", "Send"]
