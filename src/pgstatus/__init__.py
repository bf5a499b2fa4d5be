"""pg-status: which PostgreSQL host is the master, which replicas are in sync, told from memory."""

__version__ = "0.1.0"
