"""``INSTALLED_APPS = ["pgstatus.django", …]`` runs the checks of the settings with the commands."""

from django.apps import AppConfig
from django.core.checks import register


class PgStatusConfig(AppConfig):
    name = "pgstatus.django"
    label = "pgstatus"
    verbose_name = "pg-status"

    def ready(self) -> None:
        from pgstatus.django.checks import check_settings  # noqa: PLC0415  # settings are ready

        register(check_settings)
