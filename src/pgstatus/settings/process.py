"""The settings of the process: where it listens, access to it, and its logs."""

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from pgstatus.core.snapshot import Host
from pgstatus.settings import variables as v
from pgstatus.settings.reader import Reader
from pgstatus.settings.secrets import read_tokens
from pgstatus.settings.tls import server_context


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What applies to all clusters."""

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
    docs_url: str | None

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


def needs_restart(before: ProcessSettings, after: ProcessSettings) -> tuple[str, ...]:
    """The names of changed variables that only a restart applies."""
    return tuple(
        variable.full_name
        for variable, field_name in _FIXED.items()
        if getattr(before, field_name) != getattr(after, field_name)
    )


def read_process(reader: Reader) -> ProcessSettings:
    """The settings; invalid if the reader has found problems."""
    tls = _tls(reader)
    return ProcessSettings(
        listen_address=_listen_address(reader),
        listen_port=reader.read(v.HTTP_PORT),
        socket_mode=int(reader.read(v.HTTP_SOCKET_MODE), 8),
        tokens=_tokens(reader),
        tls=tls,
        tls_certificate=reader.read(v.HTTP_TLS_CERT) if tls else None,
        log_level=reader.read(v.LOG_LEVEL),
        log_format=reader.read(v.LOG_FORMAT),
        docs_url=reader.read(v.DOCS_URL),
    )


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
    reader.warn_if_exposed(v.HTTP_TOKEN_FILE, file)
    try:
        return read_tokens(file)
    except (OSError, ValueError) as error:
        reader.refuse_file(v.HTTP_TOKEN_FILE, error)
        return ()


def _tls(reader: Reader) -> ssl.SSLContext | None:
    client_ca = reader.read(v.HTTP_TLS_CLIENT_CA)
    pair = reader.read_pair(
        v.HTTP_TLS_CERT, v.HTTP_TLS_KEY, "HTTPS", required=client_ca is not None
    )
    if pair is None:
        return None
    try:
        return server_context(*pair, client_ca)
    except OSError as error:  # ssl.SSLError is one
        reader.problems.append(f"{v.PREFIX}http_tls_*: cannot use the files: {error}")
        return None
