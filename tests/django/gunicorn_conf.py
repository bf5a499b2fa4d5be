"""Two processes with four threads each, forked from one that has used the database."""

from typing import Any

workers = 2
threads = 4
worker_class = "gthread"
preload_app = True
keepalive = 75  # a slow client keeps its connection
control_socket_disable = True


def when_ready(_: Any) -> None:
    """Before the workers are forked."""
    from django.db import connections  # noqa: PLC0415  # the settings are known now
    from examples.django.notes.models import Note  # noqa: PLC0415

    Note.objects.count()
    connections.close_all()
