"""``OPTIONS["pg_status"]`` of an entry in ``DATABASES``, and which entries belong together.

::

    {"url": "http://127.0.0.1:8000", "role": "replica", "lag_ms": 500}

Every problem is found here, for the system check and for the connection that is refused, except
those of the client's options, which the client finds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, get_args

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import make_conninfo

NAME = "pg_status"
Role = Literal["master", "replica"]
Entry = Mapping[str, Any]
"""An entry of ``DATABASES``."""

_CLIENT = {
    "token", "deadline", "max_age", "stale_if_error", "max_connections", "ca", "cert", "key",
    "server_name",
}  # fmt: skip
_NUMBERS = ("deadline", "max_age", "stale_if_error", "max_connections")
_TEXTS = ("url", "token", "ca", "cert", "key", "server_name")
_LIMITS = ("lag_ms", "lag_bytes", "wait_ms")
_KNOWN = {"url", "role", "master", *_LIMITS, *_CLIENT}
# libpq would connect to these instead of the reported host.
_ADDRESS = ("host", "hostaddr", "port")
# Options of Django and of psycopg; all others are those of libpq.
_NOT_OF_LIBPQ = {
    NAME, "assume_role", "isolation_level", "pool", "server_side_binding", "autocommit", "context",
    "cursor_factory", "prepare_threshold", "row_factory",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """The valid options of one entry.

    master: the alias of the master that a replica belongs to; None if the URL determines it.
    client: the options of the client other than the URL.
    """

    url: str
    role: Role = "master"
    master: str | None = None
    lag_ms: int | None = None
    lag_bytes: int | None = None
    wait_ms: int | None = None
    client: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, alias: str, entry: Entry) -> "Options":
        """ImproperlyConfigured: names each problem of the entry."""
        found = [text for _, text in problems(entry)]
        if found:
            raise ImproperlyConfigured(f"DATABASES[{alias!r}]: {'; '.join(found)}")
        given: dict[str, Any] = dict(entry["OPTIONS"][NAME])
        client = {name: given.pop(name) for name in _CLIENT & given.keys()}
        return cls(**given, client=tuple(sorted(client.items())))


def follows(entry: Entry) -> bool:
    """Whether the hosts of this entry are those that a pg-status reports."""
    return NAME in entry.get("OPTIONS", {})


def problems(entry: Entry) -> Iterator[tuple[str, str]]:
    """The number of the system check and the text of each problem of an entry."""
    options = entry.get("OPTIONS", {})
    given = options.get(NAME)
    if not isinstance(given, dict) or "url" not in given:
        example = {"url": "http://127.0.0.1:8000"}
        yield "E001", f"OPTIONS[{NAME!r}] must be a dictionary with a URL, for example {example}"
        return
    unknown = sorted(map(str, given.keys() - _KNOWN))
    if unknown:
        known = ", ".join(sorted(_KNOWN))
        yield "E002", f"unknown option {', '.join(unknown)} in OPTIONS[{NAME!r}]; known are {known}"
    for name in _NUMBERS:
        if name in given and type(given[name]) not in {int, float}:
            yield "E003", f"OPTIONS[{NAME!r}][{name!r}] is {given[name]!r}; expected a number"
    for name in _TEXTS:
        if name in given and not isinstance(given[name], str | PathLike):
            yield "E003", f"OPTIONS[{NAME!r}][{name!r}] must be text"
    yield from _problems_of_role(given)
    for name in _ADDRESS:
        if entry.get(name.upper()) or name in options:
            place = name.upper() if entry.get(name.upper()) else f"OPTIONS[{name!r}]"
            yield "E005", f"{place} must not be set: pg-status reports the host and the port"
    if options.get("pool"):
        yield "E006", "OPTIONS['pool'] is not supported: a pool has one host; use CONN_MAX_AGE"
    if entry.get("NAME", "") == "" and not options.get("service"):
        yield "E010", "NAME must be set: the name of the database"
    try:
        make_conninfo(**{name: options[name] for name in options.keys() - _NOT_OF_LIBPQ})
    except psycopg.ProgrammingError as error:
        yield "E011", f"OPTIONS: {error}".strip()


def _problems_of_role(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    role = given.get("role", "master")
    if role not in get_args(Role):
        yield "E004", f"OPTIONS[{NAME!r}]['role'] is {role!r}; expected 'master' or 'replica'"
        return
    for name in ("master", *_LIMITS):
        if name in given and role == "master":
            yield "E004", f"OPTIONS[{NAME!r}][{name!r}] applies to the role 'replica' only"
    for name in _LIMITS:
        value = given.get(name)
        if value is not None and (type(value) is not int or value < 0):
            yield (
                "E004",
                f"OPTIONS[{NAME!r}][{name!r}] is {value!r}; expected an integer >= 0",
            )


def master_of(alias: str, databases: Mapping[str, Entry]) -> str | None:
    """The alias of the master that ``alias`` belongs to, itself if it is one.

    None: it does not follow a pg-status, or the master is not unique.
    """
    entry = databases.get(alias)
    if entry is None or not follows(entry):
        return None
    if not _is_replica(entry):
        return alias
    found = _candidates(entry, _masters(databases))
    return found[0] if len(found) == 1 else None


def problem_of_master(replica: str, databases: Mapping[str, Entry]) -> str | None:
    """Why the alias of a replica has no master, or the wrong one."""
    entry, masters = databases[replica], _masters(databases)
    given = entry["OPTIONS"][NAME]
    url, named, found = given.get("url"), given.get("master"), _candidates(entry, masters)
    if len(found) > 1:
        return (
            f"several masters have its url: {', '.join(found)}; "
            f"OPTIONS[{NAME!r}]['master'] must name one of them"
        )
    if not found and named is not None:
        known = ", ".join(masters)
        return (
            f"OPTIONS[{NAME!r}]['master'] is {named!r}, which is not the alias of a master; "
            f"these are: {known}"
        )
    if not found:
        return f"no master has its url {url!r}; the urls of masters are: {masters}"
    if masters[found[0]] != url:
        return f"its url {url!r} differs from {masters[found[0]]!r}, that of its master {named!r}"
    return None


def replicas(databases: Mapping[str, Entry]) -> dict[str, str | None]:
    """The alias of the master for the alias of each replica."""
    return {
        alias: master_of(alias, databases)
        for alias, entry in databases.items()
        if follows(entry) and _is_replica(entry)
    }


def _is_replica(entry: Entry) -> bool:
    given = entry["OPTIONS"][NAME]
    return isinstance(given, dict) and given.get("role") == "replica"


def _masters(databases: Mapping[str, Entry]) -> dict[str, Any]:
    """The URL for the alias of each master."""
    return {
        alias: entry["OPTIONS"][NAME].get("url")
        for alias, entry in databases.items()
        if follows(entry) and isinstance(entry["OPTIONS"][NAME], dict) and not _is_replica(entry)
    }


def _candidates(replica: Entry, masters: Mapping[str, Any]) -> list[str]:
    given = replica["OPTIONS"][NAME]
    if given.get("master") is not None:
        return [alias for alias in masters if alias == given["master"]]
    return [alias for alias, url in masters.items() if url == given.get("url")]
