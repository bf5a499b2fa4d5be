"""``manage.py dbshell``: psql on the reported host."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db.backends.postgresql import client

if TYPE_CHECKING:
    from pgstatus.django.base import DatabaseWrapper


class DatabaseClient(client.DatabaseClient):
    """Adds the host and the port to the settings."""

    connection: "DatabaseWrapper"

    def runshell(self, parameters: Iterable[str]) -> None:
        host, port = self.connection.choose().address
        settings = self.connection.settings_dict
        self.connection.settings_dict = {**settings, "HOST": host, "PORT": str(port)}
        try:
            super().runshell(parameters)
        finally:
            self.connection.settings_dict = settings
