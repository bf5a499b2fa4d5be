"""The settings of relays: whose evidence they follow."""

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgstatus.settings import variables as v
from pgstatus.settings.files import read_file
from pgstatus.settings.hosts import split_list
from pgstatus.settings.reader import Reader
from pgstatus.settings.secrets import read_tokens
from pgstatus.settings.upstream import Address, parse_address


@dataclass(frozen=True, slots=True)
class Fleet:
    """Whose evidence an instance follows."""

    upstreams: tuple[Address, ...] = field(repr=False)
    fallback_direct: bool
    """Check the hosts while no evidence arrives."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(address.name for address in self.upstreams)


def is_relay(reader: Reader) -> bool:
    """The instance makes no connections to PostgreSQL."""
    return reader.is_set(v.UPSTREAMS) and reader.read(v.FALLBACK_DIRECT) != "true"


def read_fleet(reader: Reader) -> Fleet | None:
    """None: the instance checks the hosts itself."""
    urls = split_list(reader.read(v.UPSTREAMS), reader.read(v.DELIMITER))
    fallback = reader.read(v.FALLBACK_DIRECT) == "true"
    if not urls:
        if fallback:
            reader.refuse(v.FALLBACK_DIRECT, f"it requires {v.UPSTREAMS.full_name}")
        return None
    if reader.is_set(v.HOSTS) is not fallback:
        reader.refuse(
            v.UPSTREAMS,
            f"{v.FALLBACK_DIRECT.full_name}=true requires {v.HOSTS.full_name}"
            if fallback
            else f"{v.HOSTS.full_name} is set too; expected one of them, or "
            f"{v.FALLBACK_DIRECT.full_name}=true",
        )
    return Fleet(tuple(_addresses(reader, urls)), fallback)


def _addresses(reader: Reader, urls: list[str]) -> list[Address]:
    found: list[Address] = []
    for place, url in enumerate(urls, 1):
        try:
            found.append(parse_address(url))
        except ValueError as error:
            reader.problems.append(f"{v.UPSTREAMS.full_name}, entry {place}: {error}")
    if len({address.name for address in found}) < len(found):
        reader.problems.append(f"{v.UPSTREAMS.full_name}: expected each URL once")
    token, tls = _token(reader), _tls(reader) if any(a.is_tls for a in found) else None
    return [replace(address, token=token, tls=tls if address.is_tls else None) for address in found]


def _token(reader: Reader) -> bytes | None:
    file = reader.read(v.UPSTREAMS_TOKEN_FILE)
    if file is None:
        return None
    reader.warn_if_world_readable(v.UPSTREAMS_TOKEN_FILE, file)
    try:
        return read_tokens(file)[0]
    except (OSError, ValueError) as error:
        reader.refuse_file(v.UPSTREAMS_TOKEN_FILE, error)
        return None


def _tls(reader: Reader) -> ssl.SSLContext | None:
    authorities = reader.read(v.UPSTREAMS_TLS_CA)
    certificate, key = reader.read(v.UPSTREAMS_TLS_CERT), reader.read(v.UPSTREAMS_TLS_KEY)
    if (certificate is None) is not (key is None):
        missing = v.UPSTREAMS_TLS_CERT if certificate is None else v.UPSTREAMS_TLS_KEY
        reader.problems.append(f"{missing.full_name}: expected a file; the pair is required")
        return None
    try:
        return client_context(authorities, certificate, key)
    except OSError as error:  # ssl.SSLError is one
        reader.problems.append(f"{v.PREFIX}upstreams_tls_*: cannot use the files: {error}")
        return None


def client_context(
    authorities: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext:
    """The context of a client. OSError (of which ``ssl.SSLError`` is one) with the reason."""
    for file in filter(None, (authorities, certificate, key)):
        read_file(file)  # OpenSSL would block on a FIFO
    context = ssl.create_default_context(cafile=authorities)

    def no_passphrase() -> str:
        raise OSError("the key has a passphrase; expected a key without one")

    if certificate is not None:
        context.load_cert_chain(certificate, key, no_passphrase)
    return context
