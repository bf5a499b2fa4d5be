"""Test databases: created on the master, and read from it through every alias."""

from typing import Any

from django.db import connections
from django.db.backends.postgresql import creation

from pgstatus.django.mirror import Mirror
from pgstatus.django.options import NAME


class DatabaseCreation(creation.DatabaseCreation):
    """Django compares and redirects aliases by address, which the settings do not contain."""

    connection: Any  # ours; its module imports this one

    def test_db_signature(self) -> tuple[str, str, str, str]:
        """Two clusters can have databases of the same name."""
        _, port, engine, name = super().test_db_signature()
        return self.connection.settings_dict["OPTIONS"][NAME]["url"], port, engine, name

    def set_as_test_mirror(self, primary_settings_dict: dict[str, Any]) -> None:
        """A replica would show what the tests write only later, and no open transaction.

        Other threads open a connection of their own to the master.
        """
        super().set_as_test_mirror(primary_settings_dict)
        settings = self.connection.settings_dict
        settings["OPTIONS"][NAME] = primary_settings_dict["OPTIONS"][NAME]
        self.connection.close()
        self.connection.forget_options()
        if master := settings["TEST"]["MIRROR"]:  # else two aliases of one database
            mirror: Any = Mirror(self.connection, master)
            connections[self.connection.alias] = mirror
