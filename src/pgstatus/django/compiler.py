"""The SQL compilers of PostgreSQL; queries of the ORM are marked as reads.

Django finds these classes by their names.
"""

from typing import Any

from django.db.backends.postgresql.compiler import (
    SQLAggregateCompiler as PostgresAggregateCompiler,
)
from django.db.backends.postgresql.compiler import SQLCompiler as PostgresCompiler
from django.db.backends.postgresql.compiler import (
    SQLDeleteCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)

__all__ = [
    "SQLAggregateCompiler",
    "SQLCompiler",
    "SQLDeleteCompiler",
    "SQLInsertCompiler",
    "SQLUpdateCompiler",
]


class SQLCompiler(PostgresCompiler):
    """A query; not the base of the compilers that write."""

    def execute_sql(self, *args: Any, **kwargs: Any) -> Any:
        with self.connection.reading():  # type: ignore[attr-defined]
            return super().execute_sql(*args, **kwargs)


class SQLAggregateCompiler(PostgresAggregateCompiler):
    def execute_sql(self, *args: Any, **kwargs: Any) -> Any:
        with self.connection.reading():  # type: ignore[attr-defined]
            return super().execute_sql(*args, **kwargs)
