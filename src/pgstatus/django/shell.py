"""``manage.py dbshell``: psql on the reported host."""

from collections.abc import Iterable
from typing import Any

from django.db.backends.postgresql import client


class DatabaseClient(client.DatabaseClient):
    """Adds the host and the port to the settings."""

    connection: Any  # ours; its module imports this one

    def runshell(self, parameters: Iterable[str]) -> None:
        host, port = self.connection.choose().address
        settings = self.connection.settings_dict
        self.connection.settings_dict = {**settings, "HOST": host, "PORT": str(port)}
        try:
            super().runshell(parameters)
        finally:
            self.connection.settings_dict = settings
