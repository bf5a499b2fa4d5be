"""The system checks: ``manage.py check`` and most other commands report these problems."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from pgstatus.django.cluster import cluster_of
from pgstatus.django.middleware import ReadYourWritesMiddleware, bookmarks
from pgstatus.django.options import (
    Entry,
    Options,
    follows,
    master_of,
    problem_of_master,
    problems,
    replicas,
)
from pgstatus.django.router import ReplicaRouter


def check_settings(**_: Any) -> list[CheckMessage]:
    """All problems of the databases that follow a pg-status."""
    databases = connections.settings
    return [*_databases(databases), *_replicas(databases), *_routing(databases)]


def _databases(databases: Mapping[str, Entry]) -> Iterator[CheckMessage]:
    for alias, entry in databases.items():
        if follows(entry) or entry["ENGINE"] == "pgstatus.django":
            found = list(problems(entry))
            for number, text in found:
                yield Error(f"DATABASES[{alias!r}]: {text}.", id=f"pgstatus.{number}")
            if not found:
                yield from _client(alias, entry)
            if "connect_timeout" not in entry["OPTIONS"]:
                yield Warning(
                    f"DATABASES[{alias!r}]: OPTIONS['connect_timeout'] is not set: a connection to "
                    "a host that has disappeared is attempted for minutes.",
                    hint="OPTIONS = {'connect_timeout': 2, …}",
                    id="pgstatus.W004",
                )


def _client(alias: str, entry: Entry) -> Iterator[CheckMessage]:
    try:
        cluster_of(Options.of(alias, entry))
    except ImproperlyConfigured as error:
        yield Error(f"DATABASES[{alias!r}]: {error}.", id="pgstatus.E003")


def _replicas(databases: Mapping[str, Entry]) -> Iterator[CheckMessage]:
    for alias in replicas(databases):
        entry, master = databases[alias], master_of(alias, databases)
        problem = problem_of_master(alias, databases)
        if problem is not None:
            yield Error(f"DATABASES[{alias!r}]: {problem}.", id="pgstatus.E007")
        elif master is not None and entry["NAME"] != databases[master]["NAME"]:
            yield Error(
                f"DATABASES[{alias!r}]: NAME differs from that of its master {master!r}.",
                hint="A replica contains the databases of its master.",
                id="pgstatus.E008",
            )
        if entry["ATOMIC_REQUESTS"]:
            yield Warning(
                f"DATABASES[{alias!r}]: ATOMIC_REQUESTS begins a transaction on a replica in each "
                "request.",
                hint="Set it for the master only.",
                id="pgstatus.W001",
            )


def _routing(databases: Mapping[str, Entry]) -> Iterator[CheckMessage]:
    try:
        bookmarks()
    except ImproperlyConfigured as error:
        yield Error(f"{error}.", id="pgstatus.E009")
    if not replicas(databases):
        return
    if not any(_is(path, ReplicaRouter) for path in settings.DATABASE_ROUTERS):
        yield Warning(
            "DATABASES contains a replica, but reads are not routed to it.",
            hint="DATABASE_ROUTERS = ['pgstatus.django.router.ReplicaRouter']",
            id="pgstatus.W002",
        )
    where = [
        place
        for place, path in enumerate(settings.MIDDLEWARE)
        if _is(path, ReadYourWritesMiddleware)
    ]
    if where != [0]:
        yield Warning(
            "ReadYourWritesMiddleware is not the first middleware: "
            + (
                "what those before it write is not noted." if where else "all reads use the master."
            ),
            hint="MIDDLEWARE = ['pgstatus.django.middleware.ReadYourWritesMiddleware', …]",
            id="pgstatus.W003",
        )


def _is(path: object, kind: type) -> bool:
    """Whether a setting names this class, or one derived from it."""
    found = import_string(path) if isinstance(path, str) else type(path)
    return isinstance(found, type) and issubclass(found, kind)
