"""A real PgBouncer with transaction pooling."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import dict_row

from pgstatus.demo.cluster import PASSWORD
from tests.support.running import Program

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"

needs_pgbouncer = pytest.mark.skipif(
    not Path(PGBOUNCER).exists(), reason="pgbouncer is not installed (Debian: pgbouncer)"
)


class Bouncer(Program):
    """One PgBouncer; ``databases`` is its [databases] section.

    ``options`` are further settings of its [pgbouncer] section.
    """

    port = 6432

    def __init__(
        self,
        directory: Path,
        address: str,
        databases: str,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.address = address
        self.config = directory / f"pgbouncer-{address}.ini"
        # PgBouncer refuses to run as root.
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        command: list[str | Path] = [PGBOUNCER, *account, self.config]
        super().__init__(command, self.config.with_suffix(".log"))
        users = directory / "users.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        settings: dict[str, object] = {
            "listen_addr": address,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": users,
            "pool_mode": "transaction",
            "admin_users": "postgres",
            **(options or {}),
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self.config.write_text(f"[databases]\n{databases}\n[pgbouncer]\n{lines}")
        for path in (directory, self.config, users):
            path.chmod(0o755)

    def conninfo(self, database: str = "postgres") -> str:
        """The connection string of an application; it does not depend on the master."""
        return (
            f"host={self.address} port={self.port} user=postgres password={PASSWORD} "
            f"dbname={database}"
        )

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        # The next transaction may use another server connection, without the prepared statement.
        return psycopg.connect(self.conninfo(database), autocommit=True, prepare_threshold=None)

    def sql(self, query: LiteralString, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement on a new connection; return its rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def show(self, what: LiteralString) -> list[dict[str, Any]]:
        """The rows of ``SHOW DATABASES`` and similar commands of the console."""
        with psycopg.connect(
            self.conninfo("pgbouncer"), autocommit=True, cursor_factory=psycopg.ClientCursor
        ) as console:
            cursor = console.cursor(row_factory=dict_row)
            return cursor.execute("SHOW " + what).fetchall()

    def target(self, database: str = "postgres") -> str:
        """The host of a database, as ``host:port``."""
        row = next(row for row in self.show("DATABASES") if row["name"] == database)
        return f"{row['host']}:{row['port']}"

    def answers(self) -> bool:
        try:
            return bool(self.show("VERSION"))
        except psycopg.OperationalError:
            return False
