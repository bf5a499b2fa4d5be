"""The NATS servers of one cluster, and how to connect to them."""

import importlib.util
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from pgstatus.settings import variables as v
from pgstatus.settings.hosts import split_list
from pgstatus.settings.reader import Reader
from pgstatus.settings.secrets import read_secret
from pgstatus.settings.tls import client_context

_PORT = 4222
_EXPECTED = "expected nats://host, nats://host:port or tls://host:port"
_JWT = "-----BEGIN NATS USER JWT-----"


@dataclass(frozen=True, slots=True)
class Login:
    """What identifies this instance to a server; a token without user and password is one."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds: str | None = field(default=None, repr=False)
    """The text of a ``.creds`` file."""


@dataclass(frozen=True, slots=True)
class NatsServer:
    """One server of the list."""

    host: str
    port: int
    login: Login

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Nats:
    """The servers, and the bucket in which the evidence is."""

    servers: tuple[NatsServer, ...]
    credentials_file: Path | None
    tls: bool
    """TLS is required. Without it, it is used if the server requires it."""
    tls_ca: Path | None
    """None: the authorities of the system."""
    tls_certificate: tuple[Path, Path] | None
    """The certificate of this client, and its key."""
    bucket: str
    replicas: int
    """Of the bucket, if it is created."""
    name: str | None
    """Of this watcher; None: the host name."""


def read_nats(reader: Reader, cluster: str | None) -> Nats | None:
    """None: not configured. ``cluster``: the name of the cluster, if it has one."""
    text = reader.read(v.NATS)
    if text is None:
        for variable in (v.NATS_CREDENTIALS_FILE, v.NATS_TLS_CA, v.NATS_TLS_CERT, v.NATS_TLS_KEY):
            if reader.is_set(variable):
                reader.warnings.append(
                    f"{variable.full_name} is ignored because {v.NATS.full_name} is not set"
                )
        return None
    if not cluster:
        reader.problems.append(
            f"{v.NATS.full_name}: several clusters can share a bucket; expected a name of this one "
            f"in {v.CLUSTER_NAME.full_name}, the same on its watchers and relays"
        )
    file = _credentials_file(reader)
    _require_library(reader, file)
    delimiter = reader.read(v.DELIMITER)
    servers, tls = _servers(reader, split_list(text, delimiter))
    ca = reader.read(v.NATS_TLS_CA)
    certificate = reader.read_pair(v.NATS_TLS_CERT, v.NATS_TLS_KEY, "a client certificate")
    nats = Nats(
        servers=servers,
        credentials_file=file,
        tls=tls or ca is not None or certificate is not None,
        tls_ca=ca,
        tls_certificate=certificate,
        bucket=reader.read(v.NATS_BUCKET),
        replicas=reader.read(v.NATS_REPLICAS),
        name=reader.read(v.NATS_NAME),
    )
    try:
        read_tls(nats)
    except OSError as error:  # ssl.SSLError is one
        reader.problems.append(f"{v.PREFIX}nats_tls_*: cannot use the files: {error}")
    return nats


def parse_login(text: str) -> Login:
    """The content of a credentials file; ValueError if it contains none."""
    if _JWT in text:
        if "-----BEGIN USER NKEY SEED-----" not in text:
            raise ValueError("a .creds file without a seed")
        return Login(creds=text)
    line = text.strip()
    if not line or not line.isprintable():
        raise ValueError("neither a .creds file nor one line")
    user, colon, password = line.partition(":")
    return Login(user=user, password=password) if colon else Login(token=line)


def read_login(path: Path) -> Login:
    """OSError or ValueError, with the path in its text."""
    text = read_secret(path)
    try:
        return parse_login(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_tls(nats: Nats) -> ssl.SSLContext | None:
    """The context with the present content of the files; None: TLS is not required. OSError."""
    return client_context(nats.tls_ca, nats.tls_certificate) if nats.tls else None


def _require_library(reader: Reader, file: Path | None) -> None:
    if importlib.util.find_spec("nats") is None:
        reader.problems.append(
            f"{v.NATS.full_name}: the library nats-py is not installed; install it with: "
            "pip install 'pg-status[nats]'"
        )
    elif file is not None and importlib.util.find_spec("nkeys") is None:
        # The libraries of some packages come without it.
        try:
            needs_it = read_login(file).creds is not None
        except (OSError, ValueError):
            return
        if needs_it:
            reader.problems.append(
                f"{v.NATS_CREDENTIALS_FILE.full_name}: a .creds file requires the library nkeys; "
                "install it with: pip install 'pg-status[nats-creds]'"
            )


def _credentials_file(reader: Reader) -> Path | None:
    path = reader.read(v.NATS_CREDENTIALS_FILE)
    if path is None:
        return None
    reader.warn_if_exposed(v.NATS_CREDENTIALS_FILE, path)
    try:
        read_login(path)
    except (OSError, ValueError) as error:
        reader.refuse_file(v.NATS_CREDENTIALS_FILE, error)
    return path


def _servers(reader: Reader, entries: list[str]) -> tuple[tuple[NatsServer, ...], bool]:
    """The servers, and whether the URL of one requires TLS. Passwords do not appear in errors."""
    servers, tls = [], False
    for number, entry in enumerate(entries, 1):
        place = f"{v.NATS.full_name}, entry {number} of {len(entries)}"
        try:
            parts = urlsplit(entry)
            if parts.scheme not in {"nats", "tls"} or not parts.hostname:
                raise ValueError(_EXPECTED)
            if parts.path not in {"", "/"} or parts.query or parts.fragment:
                raise ValueError(f"{_EXPECTED}, without a path")
            port = _PORT if parts.port is None else parts.port
        except ValueError as error:
            text = str(error)
            reader.problems.append(f"{place}: {text if text.startswith('expected') else _EXPECTED}")
            continue
        servers.append(NatsServer(parts.hostname, port, _login(parts)))
        tls = tls or parts.scheme == "tls"
    return tuple(servers), tls


def _login(parts: SplitResult) -> Login:
    if not parts.username:
        return Login()
    user = unquote(parts.username)
    if parts.password is None:
        return Login(token=user)
    return Login(user=user, password=unquote(parts.password))
