"""The HTTP interface, a Falcon WSGI application: ``create_app(Service(…))``."""

from pgstatus.api.app import create_app
from pgstatus.api.exchange import Application
from pgstatus.api.service import Daemon, Service

__all__ = ["Application", "Daemon", "Service", "create_app"]
