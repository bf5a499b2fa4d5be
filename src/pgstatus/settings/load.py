"""The configuration: an environment in, one frozen `Settings` out.

`load` is a function of its argument and of the files that the variables name. It neither reads nor
changes the environment of the process, and reports all problems together.
"""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgstatus.core.election import SplitBrain
from pgstatus.core.selection import Fallback, Place, Thresholds
from pgstatus.core.snapshot import Host
from pgstatus.core.state import Rules
from pgstatus.errors import ConfigError
from pgstatus.settings import variables as v
from pgstatus.settings.command import Command, parse_command
from pgstatus.settings.dimensions import read_dimension
from pgstatus.settings.envfile import has_password, read_env_file
from pgstatus.settings.files import writable_file_problem
from pgstatus.settings.fleet import Fleet, read_fleet
from pgstatus.settings.reader import Reader
from pgstatus.settings.secrets import read_tokens
from pgstatus.settings.target import Target
from pgstatus.settings.targets import NO_LIBPQ, Libpq, read_hosts, read_libpq, read_targets
from pgstatus.settings.tls import server_context


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, validated. Times are in seconds."""

    hosts: tuple[Host, ...]
    targets: tuple[Target, ...] = field(repr=False)
    """How to connect to each of ``hosts``, in the same order."""
    rules: Rules
    thresholds: Thresholds
    """The default limits and fallback of questions about replicas."""
    fallback_per_s: int | None
    """Maximum number of questions per second that fall back to the master; None: no limit."""
    place: Place
    failover_sleep: float
    min_lsn_wait: float
    listen_address: str
    """An address, ``*``, or ``unix:/path``."""
    listen_port: int
    socket_mode: int
    tokens: tuple[bytes, ...] = field(repr=False)
    """Accepted bearer tokens; empty: requests need none."""
    tls: ssl.SSLContext | None
    """None: plain HTTP."""
    tls_certificate: Path | None
    log_level: str
    log_format: str
    on_change: Command | None
    cluster_name: str | None
    docs_url: str | None
    state_file: Path | None
    fleet: Fleet | None = None
    """None: this instance checks the hosts itself."""
    warnings: tuple[str, ...] = ()
    """The configuration is valid, but these points may be mistakes."""

    @property
    def url(self) -> str:
        """Where it listens: ``http://host:port``, ``https://host:port`` or ``unix:/path``."""
        address = self.listen_address
        if address.startswith("unix:"):
            return address
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{Host(address, self.listen_port)}"


# The fields of the variables that a reload does not apply.
_FIXED = {
    v.HTTP_LISTEN_ADDRESS: "listen_address",
    v.HTTP_PORT: "listen_port",
    v.HTTP_SOCKET_MODE: "socket_mode",
    v.LOG_FORMAT: "log_format",
}


def needs_restart(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names of changed variables that only a restart applies."""
    return tuple(
        variable.full_name
        for variable, field_name in _FIXED.items()
        if getattr(before, field_name) != getattr(after, field_name)
    )


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment and of its env file, whose variables take precedence.

    ConfigError contains all problems, and the warnings.
    """
    path = environ.get(v.ENV_FILE.full_name)
    file, problems = read_env_file(Path(path)) if path else ({}, [])
    reader = Reader({**environ, **file}, problems)
    if path and has_password(file):
        reader.warn_if_world_readable(v.ENV_FILE, Path(path))
    fleet = read_fleet(reader)
    is_relay = fleet is not None and not fleet.fallback_direct
    # A relay does not load libpq.
    libpq = NO_LIBPQ if is_relay else read_libpq(reader, environ, file)
    settings = _read(reader, libpq, fleet)
    reader.finish()
    if reader.problems:
        raise ConfigError(reader.problems, reader.warnings)
    return replace(settings, warnings=tuple(reader.warnings))


def _read(reader: Reader, libpq: Libpq, fleet: Fleet | None) -> Settings:
    """The settings; invalid if the reader has found problems."""
    is_relay = libpq is NO_LIBPQ
    hosts = [] if is_relay else read_hosts(reader, libpq)
    number = None if is_relay else len(hosts)
    query_timeout_ms, sleep_ms = _query_timeout_ms(reader), reader.read_sleep_ms()
    dc = read_dimension(reader, number, v.HOSTS_DC, v.CURRENT_DC, v.CURRENT_DC_ENV)
    geo = read_dimension(reader, number, v.HOSTS_GEO, v.CURRENT_GEO, v.CURRENT_GEO_ENV)
    thresholds = Thresholds(
        reader.read(v.SYNC_MAX_LAG_MS),
        reader.read(v.SYNC_MAX_LAG_BYTES),
        Fallback(reader.read(v.FALLBACK)),
    )
    tls = _tls(reader)
    max_fails = max(1, reader.read(v.MAX_FAILS))
    return Settings(
        hosts=tuple(
            Host(params["host"], int(params["port"]), dc.hosts[i], geo.hosts[i])
            for i, params in enumerate(hosts)
        ),
        targets=read_targets(reader, hosts, libpq, query_timeout_ms / 1000),
        rules=Rules(
            sleep=sleep_ms / 1000,
            max_fails=max_fails,
            sync_max_lag_ms=thresholds.lag_ms,
            sync_max_lag_bytes=thresholds.lag_bytes,
            split_brain=SplitBrain(reader.read(v.SPLIT_BRAIN)),
            max_staleness=_staleness_ms(reader, sleep_ms + query_timeout_ms, max_fails) / 1000,
        ),
        thresholds=thresholds,
        fallback_per_s=reader.read(v.FALLBACK_PER_S),
        place=Place(dc.current, geo.current),
        failover_sleep=min(reader.read(v.FAILOVER_SLEEP_MS), sleep_ms) / 1000,
        min_lsn_wait=reader.read(v.MIN_LSN_WAIT_MS) / 1000,
        listen_address=_listen_address(reader),
        listen_port=reader.read(v.HTTP_PORT),
        socket_mode=int(reader.read(v.HTTP_SOCKET_MODE), 8),
        tokens=_tokens(reader),
        tls=tls,
        tls_certificate=reader.read(v.HTTP_TLS_CERT) if tls else None,
        log_level=reader.read(v.LOG_LEVEL),
        log_format=reader.read(v.LOG_FORMAT),
        on_change=_command(reader),
        cluster_name=reader.read(v.CLUSTER_NAME),
        docs_url=reader.read(v.DOCS_URL),
        state_file=_state_file(reader),
        fleet=fleet,
    )


def _query_timeout_ms(reader: Reader) -> int:
    timeout = reader.read(v.QUERY_TIMEOUT_MS)
    if reader.is_set(v.QUERY_TIMEOUT_MS):
        return timeout
    # A time that is configured for logins must not be cut off by a default.
    connect = reader.read(v.CONNECT_TIMEOUT) if reader.is_set(v.CONNECT_TIMEOUT) else 0
    return max(timeout, round(connect * 1000))


def _staleness_ms(reader: Reader, round_ms: int, max_fails: int) -> int:
    staleness = reader.read(v.MAX_STALENESS_MS)
    if staleness is None:
        return max(3, max_fails) * round_ms
    if 0 < staleness < round_ms:
        reader.refuse(
            v.MAX_STALENESS_MS,
            f"expected 0, or at least one interval and one check: "
            f"sleep_ms + query_timeout_ms = {round_ms}",
        )
    return staleness


def _listen_address(reader: Reader) -> str:
    text = reader.read(v.HTTP_LISTEN_ADDRESS)
    if text.startswith("unix:"):
        # The kernel provides 108 bytes, one of them for the terminator.
        if not text.startswith("unix:/") or len(text.encode()) > len("unix:") + 107:
            reader.refuse(
                v.HTTP_LISTEN_ADDRESS, "expected unix: and an absolute path of at most 107 bytes"
            )
        return text
    bracketed = re.fullmatch(r"\[([^\[\]]+:[^\[\]]*)\]", text)
    address = bracketed[1] if bracketed else text
    if address not in {"*", "localhost"}:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            reader.refuse(
                v.HTTP_LISTEN_ADDRESS, f"expected {v.HTTP_LISTEN_ADDRESS.parser.expected}"
            )
    return address


def _tokens(reader: Reader) -> tuple[bytes, ...]:
    file = reader.read(v.HTTP_TOKEN_FILE)
    if file is None:
        return ()
    reader.warn_if_world_readable(v.HTTP_TOKEN_FILE, file)
    try:
        return read_tokens(file)
    except (OSError, ValueError) as error:
        reader.refuse_file(v.HTTP_TOKEN_FILE, error)
        return ()


def _tls(reader: Reader) -> ssl.SSLContext | None:
    certificate, key = reader.read(v.HTTP_TLS_CERT), reader.read(v.HTTP_TLS_KEY)
    client_ca = reader.read(v.HTTP_TLS_CLIENT_CA)
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        missing = v.HTTP_TLS_CERT if certificate is None else v.HTTP_TLS_KEY
        reader.problems.append(
            f"{missing.full_name}: expected a file; HTTPS requires http_tls_cert and http_tls_key"
        )
        return None
    reader.warn_if_world_readable(v.HTTP_TLS_KEY, key)
    try:
        return server_context(certificate, key, client_ca)
    except OSError as error:  # ssl.SSLError is one
        reader.problems.append(f"{v.PREFIX}http_tls_*: cannot use the files: {error}")
        return None


def _command(reader: Reader) -> Command | None:
    text, limit_ms = reader.read(v.ON_CHANGE), reader.read(v.ON_CHANGE_TIMEOUT_MS)
    if text is None:
        return None
    try:
        return parse_command(text, limit_ms / 1000, reader.environ)
    except ValueError as error:
        reader.refuse_file(v.ON_CHANGE, error)
        return None


def _state_file(reader: Reader) -> Path | None:
    path = reader.read(v.STATE_FILE)
    if path is not None and (problem := writable_file_problem(path)):
        reader.refuse_file(v.STATE_FILE, ValueError(problem))
    return path
