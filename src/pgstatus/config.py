"""The configuration: environment variables in, one frozen `Settings` out.

`VARIABLES` declares each of them once; ``docs/configuration.md`` is checked against it. All
mistakes are reported together, and nothing else in the daemon reads the environment.
"""

import difflib
import ipaddress
import os
import shlex
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environs import Env, EnvValidationError, validate

from pgstatus.election import SplitBrain
from pgstatus.envfile import become, read_env_file
from pgstatus.errors import ConfigError
from pgstatus.hooks import Command
from pgstatus.hostlist import Params, parse_hosts, split_list
from pgstatus.secret import read_tokens
from pgstatus.selection import Place, Thresholds
from pgstatus.snapshot import Host
from pgstatus.target import Target
from pgstatus.tls import server_context
from pgstatus.tracker import Rules

PREFIX = "pg_status__"
_U64 = 2**64 - 1
_DAY = 86_400
_UP_TO_A_DAY = validate.Range(min=0, min_inclusive=False, max=_DAY)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. ``kind`` names the environs parser; ``expected`` ends an error's sentence."""

    name: str
    kind: str
    default: Any
    expected: str
    check: Callable[[Any], Any] | None = None
    alias: str | None = None
    """The name that 1.0 gave it."""


def _words(*words: str) -> dict[str, Any]:
    return {"expected": f"one of {', '.join(words)}", "check": validate.OneOf(words)}


def _whole(minimum: int, maximum: int = _U64) -> dict[str, Any]:
    upper = f" up to {maximum}" if maximum != _U64 else ""
    return {
        "expected": f"a whole number from {minimum}{upper}",
        "check": validate.Range(minimum, maximum),
    }


_TEXT = "text"

VARIABLES = (
    Variable("hosts", "str", None, "host, host:port, [v6]:port or postgresql:// URIs"),
    Variable("delimiter", "str", ",", _TEXT),
    Variable("pg_user", "str", "postgres", _TEXT),
    Variable("pg_password", "str", "postgres", _TEXT),
    Variable("pg_password_file", "path", None, "the path of a file"),
    Variable("pg_database", "str", "postgres", _TEXT),
    Variable("pg_port", "str", "5432", "ports, one for all hosts or one for each", alias="port"),
    Variable("sleep_ms", "int", 5000, **_whole(1, 1000 * _DAY)),
    Variable("sleep", "float", None, "seconds, more than 0, at most a day", _UP_TO_A_DAY),
    Variable("connect_timeout", "float", 2.0, "seconds, more than 0, at most a day", _UP_TO_A_DAY),
    Variable("query_timeout_ms", "int", 5000, **_whole(1, 1000 * _DAY)),
    Variable("conn_max_age_ms", "int", 300_000, **_whole(0)),
    Variable("max_fails", "int", 3, **_whole(1)),
    Variable("sync_max_lag_ms", "int", 1000, **_whole(0)),
    Variable("sync_max_lag_bytes", "int", 1_000_000, **_whole(0)),
    Variable("hosts_dc", "str", None, _TEXT),
    Variable("hosts_geo", "str", None, _TEXT),
    Variable("current_dc", "str", None, _TEXT),
    Variable("current_dc_env", "str", None, "the name of a variable"),
    Variable("current_geo", "str", None, _TEXT),
    Variable("current_geo_env", "str", None, "the name of a variable"),
    Variable(
        "http_listen_address",
        "str",
        "0.0.0.0",  # noqa: S104
        "an IPv4 or IPv6 address, * or unix:/path",
    ),
    Variable("http_port", "int", 8000, **_whole(1, 65535)),
    Variable(
        "http_socket_mode",
        "str",
        "660",
        "three octal digits, as in 660",
        validate.Regexp(r"[0-7]{3}\Z"),
    ),
    Variable("http_token_file", "path", None, "the path of a file"),
    Variable("http_tls_cert", "path", None, "the path of a file"),
    Variable("http_tls_key", "path", None, "the path of a file"),
    Variable("http_tls_client_ca", "path", None, "the path of a file"),
    Variable("log_level", "str", "info", **_words("debug", "info", "warning", "error", "fatal")),
    Variable("log_format", "str", "text", **_words("text", "json")),
    Variable("failover_sleep_ms", "int", 100, **_whole(1, 1000 * _DAY)),
    Variable("split_brain", "str", "newest_timeline", **_words(*SplitBrain)),
    Variable("min_lsn_wait_ms", "int", 20, **_whole(0, 10_000)),
    Variable("max_staleness_ms", "int", None, **_whole(0)),
    Variable("state_file", "path", None, "the path of a file"),
    Variable("on_change", "str", None, "a command and its arguments"),
    Variable("on_change_timeout_ms", "int", 30_000, **_whole(1, 1000 * _DAY)),
    Variable("env_file", "str", None, "the path of a file"),
)
_BY_NAME = {variable.name: variable for variable in VARIABLES}


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, checked. Times in seconds."""

    hosts: tuple[Host, ...]
    targets: tuple[Target, ...] = field(repr=False)
    """How to reach each of ``hosts``, in the same order."""
    rules: Rules
    thresholds: Thresholds
    place: Place
    failover_sleep: float
    min_lsn_wait: float
    listen_address: str
    """An address, ``*``, or ``unix:/path``."""
    listen_port: int
    socket_mode: int
    tokens: tuple[bytes, ...] = field(repr=False)
    tls: ssl.SSLContext | None
    """How connections are encrypted; None: they are not."""
    tls_certificate: Path | None
    log_level: str
    log_format: str
    on_change: Command | None
    state_file: Path | None
    warnings: tuple[str, ...]
    """What to tell at the start: it works, but perhaps not as it was meant."""


def load_settings(inherited: Mapping[str, str] | None = None) -> Settings:
    """Read ``os.environ`` (and ``pg_status__env_file`` into it). ConfigError: all that is wrong.

    ``inherited``, of a reload, is the environment as it was before the first call: what the file
    said then and does not say now is forgotten. A ConfigError leaves the environment as it was.
    """
    before = dict(os.environ)
    environment = dict(before if inherited is None else inherited)
    path = environment.get(f"{PREFIX}env_file")
    problems = read_env_file(path, environment) if path else []
    become(environment)
    try:
        return _read_settings(problems)
    except ConfigError:
        become(before)
        raise


def _read_settings(problems: list[str]) -> Settings:
    reader = _Reader(problems)
    raw = {variable.name: reader.read(variable) for variable in VARIABLES}
    problems = reader.problems()
    entries = split_list(raw["hosts"], raw["delimiter"])
    if not entries:
        problems.append(
            f"{PREFIX}hosts is not set: name the PostgreSQL hosts, as in {PREFIX}hosts=pg1,pg2,pg3"
        )
    found, wrong = parse_hosts(entries, split_list(raw["pg_port"], raw["delimiter"]))
    problems += [PREFIX + problem for problem in wrong]
    dc = _dimension(raw, "dc", len(found), reader.warnings)
    geo = _dimension(raw, "geo", len(found), reader.warnings)
    address = _listen_address(raw["http_listen_address"], problems)
    tokens = _tokens(raw["http_token_file"], problems)
    tls = _tls(raw, problems)
    on_change = _command(raw["on_change"], raw["on_change_timeout_ms"], problems)
    state_file = raw["state_file"]
    if state_file is not None and not state_file.parent.is_dir():
        problems.append(f"{PREFIX}state_file: there is no directory {state_file.parent}")
    if problems:
        raise ConfigError(problems)
    sleep = raw["sleep_ms"] / 1000
    staleness = raw["max_staleness_ms"]
    if staleness is None:
        staleness = max(3, raw["max_fails"]) * (raw["sleep_ms"] + raw["query_timeout_ms"])
    elif 0 < staleness < raw["sleep_ms"] + raw["query_timeout_ms"]:
        reader.warnings.append(
            f"{PREFIX}max_staleness_ms={staleness} is less than one pause and one check may take: "
            "nothing will be served while a host hangs"
        )
    return Settings(
        hosts=tuple(
            Host(params["host"], int(params["port"]), dc.hosts[i], geo.hosts[i])
            for i, params in enumerate(found)
        ),
        targets=tuple(_target(params, raw) for params in found),
        rules=Rules(
            sleep=sleep,
            max_fails=raw["max_fails"],
            sync_max_lag_ms=raw["sync_max_lag_ms"],
            sync_max_lag_bytes=raw["sync_max_lag_bytes"],
            split_brain=SplitBrain(raw["split_brain"]),
            max_staleness=staleness / 1000,
        ),
        thresholds=Thresholds(raw["sync_max_lag_ms"], raw["sync_max_lag_bytes"]),
        place=Place(dc.current, geo.current),
        failover_sleep=min(raw["failover_sleep_ms"] / 1000, sleep),
        min_lsn_wait=raw["min_lsn_wait_ms"] / 1000,
        listen_address=address,
        listen_port=raw["http_port"],
        socket_mode=int(raw["http_socket_mode"], 8),
        tokens=tokens,
        tls=tls,
        tls_certificate=raw["http_tls_cert"] if tls else None,
        log_level=raw["log_level"],
        log_format=raw["log_format"],
        on_change=on_change,
        state_file=state_file,
        warnings=tuple(reader.warnings),
    )


def _is_unicode(text: str) -> bool:
    """Bytes of the environment that are no UTF-8 come as surrogates, which nothing can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Reader:
    """Reads variables and gathers what is wrong with them."""

    def __init__(self, problems: list[str]) -> None:
        # Not eager: environs keeps every mistake until seal().
        self._env = Env(eager=False)
        self._problems = problems
        self.warnings: list[str] = []

    def read(self, variable: Variable) -> Any:
        """The value, or the default where the variable is unset, empty or wrong."""
        name = PREFIX + variable.name
        if variable.alias is not None:
            name = self._older(name, PREFIX + variable.alias)
        elif variable.name == "sleep_ms":
            return self._sleep_ms(variable, name)
        if not os.environ.get(name):
            return variable.default
        if not _is_unicode(os.environ[name]):
            self._problems.append(f"{name}: expected text in UTF-8")
            return variable.default
        value = self._parse(variable, name)
        return variable.default if value is None else value

    def problems(self) -> list[str]:
        """One sentence for each wrong value. Reads the unknown names into ``warnings``, too."""
        try:
            self._env.seal()
        except EnvValidationError as error:
            for name in error.error_messages:
                variable = self._variable(name)
                self._problems.append(
                    f"{name}={os.environ.get(name)!r}: expected {variable.expected}"
                )
        self._unknown_names()
        return self._problems

    def _parse(self, variable: Variable, name: str) -> Any:
        parse = getattr(self._env, variable.kind)
        return parse(name, validate=variable.check) if variable.check else parse(name)

    def _variable(self, name: str) -> Variable:
        name = name.removeprefix(PREFIX)
        return _BY_NAME.get(name) or next(v for v in VARIABLES if v.alias == name)

    def _older(self, name: str, alias: str) -> str:
        if os.environ.get(name) and os.environ.get(alias):
            self.warnings.append(f"{name} and {alias} are both set; {alias} is ignored")
        return name if os.environ.get(name) or not os.environ.get(alias) else alias

    def _sleep_ms(self, variable: Variable, name: str) -> Any:
        """``sleep`` (1.0) is in seconds, with fractions; everything else of it is ``sleep_ms``."""
        older = PREFIX + "sleep"
        if self._older(name, older) == older:
            seconds = self._parse(_BY_NAME["sleep"], older)
            return max(1, round(seconds * 1000)) if seconds else variable.default
        return (os.environ.get(name) and self._parse(variable, name)) or variable.default

    def _unknown_names(self) -> None:
        known = [PREFIX + v.name for v in VARIABLES]
        known += [PREFIX + v.alias for v in VARIABLES if v.alias]
        for name in os.environ:
            if name.lower().startswith(PREFIX) and name not in known:
                near = difflib.get_close_matches(name.lower(), known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.warnings.append(f"{name} is not a variable of pg-status{hint}")


def _target(params: Params, raw: dict[str, Any]) -> Target:
    common = {"user": raw["pg_user"], "dbname": raw["pg_database"]}
    # libpq looks into PGPASSFILE only where it was given no password.
    has_passfile = "passfile" in params or os.environ.get("PGPASSFILE")
    if os.environ.get(f"{PREFIX}pg_password") or not has_passfile:
        common["password"] = raw["pg_password"]
    return Target(
        common | params,
        connect_timeout=raw["connect_timeout"],
        query_timeout=raw["query_timeout_ms"] / 1000,
        max_age=raw["conn_max_age_ms"] / 1000,
        password_file=None if "password" in params else raw["pg_password_file"],
    )


@dataclass(frozen=True, slots=True)
class _Dimension:
    """Data centre or region: this instance's, and each host's. All None where it is off."""

    current: str | None
    hosts: Sequence[str | None]


def _dimension(raw: dict[str, Any], name: str, hosts: int, warnings: list[str]) -> _Dimension:
    values = split_list(raw[f"hosts_{name}"], raw["delimiter"])
    other = raw[f"current_{name}_env"]
    current = raw[f"current_{name}"] or (os.environ.get(other) if other else None)
    if current and len(values) == hosts:
        return _Dimension(current, values)
    if current:
        warnings.append(
            f"{PREFIX}current_{name} is ignored: {PREFIX}hosts_{name} has {len(values)} values "
            f"for {hosts} hosts"
        )
    elif values or other:
        where = f", {other} is not set" if other else ""
        warnings.append(f"{PREFIX}hosts_{name} is ignored: no {PREFIX}current_{name}{where}")
    return _Dimension(None, [None] * hosts)


def _tokens(file: Path | None, problems: list[str]) -> tuple[bytes, ...]:
    if file is None:
        return ()
    try:
        return read_tokens(file)
    except (OSError, ValueError) as error:
        problems.append(f"{PREFIX}http_token_file: {error}")
        return ()


def _tls(raw: dict[str, Any], problems: list[str]) -> ssl.SSLContext | None:
    certificate, key, client_ca = (raw[f"http_tls_{name}"] for name in ("cert", "key", "client_ca"))
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        problems.append(
            f"{PREFIX}http_tls_cert and {PREFIX}http_tls_key: expected both or none, and both with "
            f"{PREFIX}http_tls_client_ca"
        )
        return None
    for name, file in (("cert", certificate), ("key", key), ("client_ca", client_ca)):
        if file is not None and not file.is_file():
            problems.append(f"{PREFIX}http_tls_{name}: {file} is no regular file, or not there")
            return None
    try:
        return server_context(certificate, key, client_ca)
    except OSError as error:  # ssl.SSLError among them
        problems.append(f"{PREFIX}http_tls_*: the files cannot be used: {error}")
        return None


def _command(text: str | None, limit_ms: int, problems: list[str]) -> Command | None:
    if not text:
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:  # "No closing quotation"
        problems.append(f"{PREFIX}on_change: {error}: expected {_BY_NAME['on_change'].expected}")
        return None
    if not words or shutil.which(words[0]) is None:
        problems.append(
            f"{PREFIX}on_change: {words[0] if words else text!r} cannot be found or may not be "
            "executed; for a line of shell write sh -c '…'"
        )
        return None
    # Without our own configuration, which holds passwords.
    environment = {k: v for k, v in os.environ.items() if not k.lower().startswith(PREFIX)}
    return Command(tuple(words), limit_ms / 1000, environment)


def _listen_address(text: str, problems: list[str]) -> str:
    if text.startswith("unix:"):
        # The kernel has 108 bytes for it, one of them for the end.
        if not text.startswith("unix:/") or len(text.encode()) > len("unix:") + 107:
            problems.append(
                f"{PREFIX}http_listen_address={text!r}: expected unix: and an absolute path of at "
                "most 107 bytes"
            )
        return text
    address = text.strip("[]")
    if address not in {"*", "localhost"}:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            problems.append(
                f"{PREFIX}http_listen_address={text!r}: expected "
                f"{_BY_NAME['http_listen_address'].expected}"
            )
    return address
