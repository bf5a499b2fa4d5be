"""How to connect to each host: the host list, the common variables and libpq's own.

Precedence, per parameter: the URI of the host (and the service that it names); the variables of
pg-status that are set; libpq's own variables; the defaults of pg-status.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pgstatus.settings import libpq_files
from pgstatus.settings import variables as v
from pgstatus.settings.application_name import application_name
from pgstatus.settings.hosts import parse_hosts, parse_port, split_list, split_per_host
from pgstatus.settings.libpq import (
    Params,
    home,
    invalid,
    params_of_variables,
    parse_uri,
    service_file_warnings,
)
from pgstatus.settings.reader import Reader
from pgstatus.settings.secrets import read_secret
from pgstatus.settings.target import Target

_BASIC = {"host", "port", "user", "password", "dbname"}


@dataclass(frozen=True, slots=True)
class Libpq:
    """What the environment of libpq contributes."""

    params: Params
    home: Path | None
    has_hostaddr: bool
    """libpq would find an address in its environment, or in a service."""
    is_valid: bool


NO_LIBPQ = Libpq({}, None, has_hostaddr=False, is_valid=True)
"""Of an instance without connections to PostgreSQL."""


def read_libpq(reader: Reader, process: Mapping[str, str], file: Mapping[str, str]) -> Libpq:
    params, problems, warnings = params_of_variables(process, file)
    reader.problems += problems
    reader.warnings += warnings
    return Libpq(
        params,
        home(reader.environ),
        has_hostaddr=bool(process.get("PGHOSTADDR") or process.get("PGSERVICE")),
        is_valid=not problems,
    )


def read_hosts(reader: Reader, libpq: Libpq) -> Sequence[Params]:
    """The parameters of each item of ``hosts``."""
    delimiter = reader.read(v.DELIMITER)
    entries = split_list(reader.read(v.HOSTS), delimiter)
    if not entries:
        reader.problems.append(
            f"{v.HOSTS.full_name} is not set; expected the PostgreSQL hosts, for example "
            f"{v.HOSTS.full_name}=pg1,pg2,pg3"
        )
    ports: Sequence[str] = ()
    if reader.is_set(v.PG_PORT):
        ports = split_per_host(reader.read(v.PG_PORT), len(entries), delimiter)
    found, problems = parse_hosts(
        entries, ports, _default_port(reader, libpq), partial(parse_uri, environ=reader.environ)
    )
    reader.problems += [v.PREFIX + problem for problem in problems]
    if reader.environ.get("PGSERVICE") or "service=" in (reader.read(v.HOSTS) or ""):
        reader.warnings += service_file_warnings(reader.environ)
    return found


def _default_port(reader: Reader, libpq: Libpq) -> int:
    try:
        return parse_port(libpq.params.get("port", v.PG_PORT.default))
    except ValueError as error:
        reader.problems.append(f"PGPORT={libpq.params['port']!r}: {error}")
        return int(v.PG_PORT.default)


def read_targets(
    reader: Reader,
    hosts: Sequence[Params],
    libpq: Libpq,
    query_timeout: float,
    cluster: str | None,
) -> tuple[Target, ...]:
    """How to connect to each of ``hosts``."""
    common = {"user": v.PG_USER.default, "dbname": v.PG_DATABASE.default} | libpq.params
    for keyword, variable in (
        ("user", v.PG_USER), ("dbname", v.PG_DATABASE), ("password", v.PG_PASSWORD)
    ):  # fmt: skip
        value = reader.read(variable)
        if reader.is_set(variable):
            common[keyword] = value
    password_file = _password_file(reader)
    max_age = reader.read(v.CONN_MAX_AGE_MS) / 1000
    # 0: no limit of its own.
    connect_timeout = reader.read(v.CONNECT_TIMEOUT) or query_timeout
    name = application_name(socket.gethostname(), cluster)
    targets = []
    for place, own in enumerate(hosts, 1):
        params = common | own
        file = None if "password" in own else password_file
        if "password" not in params and file is None:
            params |= _password(reader, params, libpq.home)
        if libpq.has_hostaddr and params["host"].startswith("/"):
            params.setdefault("hostaddr", "")
        if libpq.is_valid:
            _validate(reader, f"{v.HOSTS.full_name}, entry {place}", own, params, libpq)
        targets.append(Target(params, connect_timeout, query_timeout, max_age, file, name))
    return tuple(targets)


def _validate(reader: Reader, entry: str, own: Params, params: Params, libpq: Libpq) -> None:
    problems = [invalid(params), *libpq_files.tls_problems(params, libpq.home)]
    # A problem of common parameters is reported once, not for each host.
    source = entry if own.keys() - _BASIC else f"PG* variables ({', '.join(sorted(libpq.params))})"
    for problem in filter(None, problems):
        if f"{source}: {problem}" not in reader.problems:
            reader.problems.append(f"{source}: {problem}")


def _password(reader: Reader, params: Params, home: Path | None) -> Params:
    """The default password, unless libpq finds one in its password file."""
    file = libpq_files.password_file(params, home)
    if file is None:
        return {"password": v.PG_PASSWORD.default}
    if warning := libpq_files.password_file_warning(file):
        reader.warnings.append(f"password file: {warning}")
    # Named, so that a login can leave it out if libpq would ignore it with a warning of its own.
    return {"passfile": str(file)}


def _password_file(reader: Reader) -> Path | None:
    path = reader.read(v.PG_PASSWORD_FILE)
    if path is None:
        return None
    reader.warn_if_exposed(v.PG_PASSWORD_FILE, path)
    try:
        read_secret(path)
    except FileNotFoundError as error:
        # It may be provided later; it is read at every login.
        reader.warnings.append(f"{v.PG_PASSWORD_FILE.full_name}: {error}")
    except (OSError, ValueError) as error:
        reader.refuse_file(v.PG_PASSWORD_FILE, error)
    return path
