"""The HTTP interface, a Falcon WSGI app: ``create_app(Service(…))``."""

from pgstatus.api.app import create_app
from pgstatus.api.service import Service

__all__ = ["Service", "create_app"]
