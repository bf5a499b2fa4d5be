"""libpq's connection parameters: from URIs, services and ``PG*`` variables.

What libpq would look up in the environment at every login is looked up here once, in the
environment of the configuration, and passed to libpq explicitly. psycopg is imported only where
it is needed: commands that only read a configuration usually run without it.
"""

import ipaddress
import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from pgstatus.errors import in_a_line
from pgstatus.settings.files import exposure, is_file, read_text
from pgstatus.settings.parsers import is_unicode

Params = dict[str, str]
"""Connection parameters."""

# Parameters that are not taken from variables: why, and the value that libpq is given instead.
_NOT_FROM_VARIABLES = {
    "host": ("pg_status__hosts applies", None),
    "hostaddr": ("pg_status__hosts applies", None),
    "connect_timeout": ("pg_status__connect_timeout applies", "0"),
    "target_session_attrs": ("pg-status connects to the master and to replicas", "any"),
    "load_balance_hosts": ("pg-status connects to every host", "disable"),
    "client_encoding": ("the client encoding is UTF8", None),
}
# Variables of libpq that are not parameters: a library reads them in the process environment.
_ONLY_IN_PROCESS = ("PGDATESTYLE", "PGTZ", "PGGEQO", "PGREQUIRESSL", "PGLOCALEDIR")
# libpq reads the service again at every login, in the process environment.
_SERVICE_VARIABLES = ("PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR")
_INTEGERS = (
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval",
    "keepalives_count", "tcp_user_timeout",
)  # fmt: skip
# Not given to libpq's validation: it would use them, or they are secret and validated elsewhere.
_NOT_VALIDATED = {"host", "hostaddr", "port", "user", "dbname", "password", "passfile"}
_NOWHERE = "/nonexistent/pg-status"


def parse_uri(uri: str, environ: Mapping[str, str]) -> Params:
    """A ``postgresql://`` URI as libpq reads it, with the parameters of its ``service``.

    ValueError if it is invalid; the text contains no part of the URI except a service name.
    """
    from psycopg import ProgrammingError  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        params = {key: str(value) for key, value in conninfo_to_dict(uri).items()}
    except ProgrammingError:
        # The message of libpq contains the URI, and with it a password.
        raise ValueError("libpq cannot parse the URI") from None
    if name := params.pop("service", None):
        params = read_service(name, environ) | params
    return params


def params_of_variables(
    process: Mapping[str, str], file: Mapping[str, str]
) -> tuple[Params, list[str], list[str]]:
    """``(parameters, problems, warnings)`` of the ``PG*`` variables.

    ``process`` is the environment of the process, ``file`` what the env file adds to it.
    """
    environ = {**process, **file}
    if not any(name.startswith("PG") for name in environ):
        return {}, [], []
    params, problems = _service_of_variables(process, environ)
    problems += [
        f"{name}: expected text in UTF-8"
        for name, value in environ.items()
        if name.startswith("PG") and not is_unicode(value)
    ]
    if problems:
        return {}, problems, []
    warnings = [
        f"{name} in the env file is ignored; set it in the environment of the process"
        for name in _ONLY_IN_PROCESS
        if name in file
    ]
    for keyword, name, compiled in _options():
        if keyword in _NOT_FROM_VARIABLES:
            reason, instead = _NOT_FROM_VARIABLES[keyword]
            in_service = params.pop(keyword, None) is not None
            if environ.get(name):
                warnings.append(f"{name} is ignored: {reason}")
            if instead is not None and (in_service or environ.get(name)):
                params[keyword] = instead
        elif environ.get(name):
            params.setdefault(keyword, environ[name])
        elif name in environ and keyword not in _NOT_VALIDATED:
            # Empty. libpq rejects that for some variables, for example PGSSLMODE.
            params.setdefault(keyword, compiled)
    return params, problems, warnings


def _service_of_variables(
    process: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[Params, list[str]]:
    for name in _SERVICE_VARIABLES:
        if process.get("PGSERVICE") and process.get(name) != environ.get(name):
            return {}, [f"{name}: expected the same value in the env file as in the environment"]
    service = environ.get("PGSERVICE")
    if "PGSERVICE" in process and not service:
        return {}, ["PGSERVICE is empty: expected the name of a service, or no variable"]
    try:
        return (read_service(service, environ) if service else {}), []
    except ValueError as error:
        return {}, [f"PGSERVICE={in_a_line(repr(service))}: {error}"]


def read_service(name: str, environ: Mapping[str, str]) -> Params:
    """The parameters of a service. ValueError if it is unknown or its file cannot be read."""
    import configparser  # noqa: PLC0415  # rarely needed

    searched = []
    for file, required in _service_files(environ):
        searched.append(str(file))
        if not required and not is_file(file):
            continue
        parser = configparser.RawConfigParser(
            delimiters=("=",), comment_prefixes=("#",), default_section="", strict=False
        )
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(read_text(file), str(file))
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read the service file: {error}") from None
        except configparser.Error:
            raise ValueError(f"{file}: expected sections [NAME] of lines KEY=VALUE") from None
        if parser.has_section(name):
            params = dict(parser.items(name))
            if unknown := params.keys() - {keyword for keyword, _, _ in _options()}:
                raise ValueError(f"{file}: unknown parameter {min(unknown)!r} in service {name!r}")
            return params
    shown = in_a_line(repr(name))
    raise ValueError(f"unknown service {shown} (searched: {', '.join(searched) or 'no file'})")


def service_file_warnings(environ: Mapping[str, str]) -> list[str]:
    """About service files with passwords, and files that other users can change."""
    warnings = []
    for file, _ in _service_files(environ):
        try:
            is_secret = re.search(r"^\s*password\s*=", read_text(file), re.MULTILINE) is not None
        except (OSError, ValueError):
            continue  # reported if it is required
        if remark := exposure(file, is_secret=is_secret):
            warnings.append(f"service file: {remark}")
    return warnings


def _service_files(environ: Mapping[str, str]) -> list[tuple[Path, bool]]:
    """In the order of libpq, and whether the file must exist."""
    files = []
    if named := environ.get("PGSERVICEFILE"):
        files.append((Path(named), True))
    elif directory := home(environ):
        files.append((directory / ".pg_service.conf", False))
    if system := environ.get("PGSYSCONFDIR"):
        files.append((Path(system, "pg_service.conf"), False))
    return files


def home(environ: Mapping[str, str]) -> Path | None:
    """The home directory, found as libpq finds it."""
    if directory := environ.get("HOME"):
        return Path(directory)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def invalid(params: Params) -> str | None:
    """Why libpq would reject these parameters at every login; None if it would not.

    Not to be called if ``PGSERVICE`` is invalid: libpq reads it, and would block on a FIFO.
    """
    for keyword in _INTEGERS:
        if not re.fullmatch(r"-?[0-9]{1,9}", params.get(keyword, "0")):
            return f"{keyword}={params[keyword]!r}: expected a whole number"
    if address := params.get("hostaddr"):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return f"hostaddr={address!r}: expected an IP address"
    if params.get("target_session_attrs", "any") != "any":
        return "target_session_attrs: expected any; pg-status connects to master and replicas"
    if params.get("replication", "false").lower() not in {"false", "off", "no", "0"}:
        return "replication: expected no such parameter; pg-status runs queries"
    validated = {k: v for k, v in params.items() if k not in _NOT_VALIDATED}
    return _invalid_for_libpq(validated) if validated else None


def _invalid_for_libpq(params: Params) -> str | None:
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415
    from psycopg.pq import PGconn  # noqa: PLC0415

    # libpq validates its parameters when it starts to connect. Through a directory that does not
    # exist it does not get further; with a password it does not read a password file.
    conninfo = make_conninfo("", **params, host=_NOWHERE, user="x", password="x", dbname="x")  # noqa: S106
    connection = PGconn.connect_start(conninfo.encode())
    message = connection.get_error_message()
    connection.finish()
    return None if _NOWHERE in message else message.partition("\n")[0]


def _options() -> list[tuple[str, str, str]]:
    """``(keyword, variable, compiled default)`` of every parameter that libpq has."""
    from psycopg.pq import Conninfo  # noqa: PLC0415

    # Not get_defaults(): that reads the environment of the process, and the file of a service.
    return [
        (
            option.keyword.decode(),
            (option.envvar or b"").decode(),
            (option.compiled or b"").decode(),
        )
        for option in Conninfo.parse(b"")
        if option.keyword != b"service"
    ]
