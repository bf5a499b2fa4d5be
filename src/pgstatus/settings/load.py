"""The configuration: environment variables in, one frozen `Settings` out.

All mistakes are reported together. Beside libpq, and systemd's and on_change's own variables,
nothing else in the daemon reads the environment.
"""

import ipaddress
import os
import re
import shlex
import shutil
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgstatus.core.election import SplitBrain
from pgstatus.core.selection import Place, Thresholds
from pgstatus.core.snapshot import Host
from pgstatus.core.state import Rules
from pgstatus.errors import ConfigError
from pgstatus.settings.command import Command
from pgstatus.settings.envfile import become, read_env_file
from pgstatus.settings.hosts import Params, parse_hosts, split_list, split_positions
from pgstatus.settings.secrets import read_tokens
from pgstatus.settings.target import Target
from pgstatus.settings.tls import server_context
from pgstatus.settings.variables import BY_NAME, PREFIX, VARIABLES, Reader


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

    @property
    def url(self) -> str:
        """Where it listens: ``http://host:port``, ``https://…`` or ``unix:/path``."""
        address = self.listen_address
        if address.startswith("unix:"):
            return address
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{Host(address, self.listen_port)}"


def load_settings(inherited: Mapping[str, str] | None = None) -> Settings:
    """Read ``os.environ`` (and ``pg_status__env_file`` into it). ConfigError: all that is wrong.

    ``inherited``, of a reload, is the environment as it was before the first call: what the file
    said then and does not say now is forgotten. A ConfigError leaves the environment as it was.
    """
    before = dict(os.environ)
    environment = dict(before if inherited is None else inherited)
    path = environment.get(f"{PREFIX}env_file")
    problems = read_env_file(Path(path), environment) if path else []
    become(environment)
    try:
        return _read_settings(problems)
    except ConfigError:
        become(before)
        raise


def _read_settings(problems: list[str]) -> Settings:
    reader = Reader(problems)
    raw = {variable.name: reader.read(variable) for variable in VARIABLES}
    problems = reader.problems()
    entries = split_list(raw["hosts"], raw["delimiter"])
    if not entries:
        problems.append(
            f"{PREFIX}hosts is not set: name the PostgreSQL hosts, as in {PREFIX}hosts=pg1,pg2,pg3"
        )
    found, wrong = parse_hosts(
        entries, split_positions(raw["pg_port"], raw["hosts"], raw["delimiter"])
    )
    problems += [PREFIX + problem for problem in wrong]
    dc = _dimension(raw, "dc", len(entries), reader.warnings)
    geo = _dimension(raw, "geo", len(entries), reader.warnings)
    address = _listen_address(raw["http_listen_address"], problems)
    tokens = _tokens(raw["http_token_file"], problems)
    tls = _tls(raw, problems)
    on_change = _command(raw["on_change"], raw["on_change_timeout_ms"], problems)
    state_file = raw["state_file"]
    if state_file is not None and not state_file.parent.is_dir():
        problems.append(f"{PREFIX}state_file: there is no directory {state_file.parent}")
    elif state_file is not None and state_file.exists() and not state_file.is_file():
        problems.append(f"{PREFIX}state_file: {state_file}: expected a regular file, or none yet")
    round_ms = raw["sleep_ms"] + raw["query_timeout_ms"]
    staleness = raw["max_staleness_ms"]
    if staleness is None:
        staleness = max(3, raw["max_fails"]) * round_ms
    elif 0 < staleness < round_ms:
        problems.append(
            f"{PREFIX}max_staleness_ms={staleness}: expected 0, or no less than one pause and one "
            f"check may take: sleep_ms + query_timeout_ms = {round_ms}"
        )
    if problems:
        raise ConfigError(problems, reader.warnings)
    sleep = raw["sleep_ms"] / 1000
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
    values = split_positions(raw[f"hosts_{name}"], raw["hosts"], raw["delimiter"])
    other = raw[f"current_{name}_env"]
    current = raw[f"current_{name}"] or (os.environ.get(other) if other else None)
    if current and len(values) == hosts:
        return _Dimension(current, [value or None for value in values])
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
        problems.append(f"{PREFIX}on_change: {error}: expected {BY_NAME['on_change'].expected}")
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
    bracketed = re.fullmatch(r"\[([^\[\]]+:[^\[\]]*)\]", text)
    address = bracketed[1] if bracketed else text
    if address not in {"*", "localhost"}:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            problems.append(
                f"{PREFIX}http_listen_address={text!r}: expected "
                f"{BY_NAME['http_listen_address'].expected}"
            )
    return address
