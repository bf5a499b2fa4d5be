"""The settings of relays: whose evidence they follow."""

import ssl
from dataclasses import dataclass, field, replace

from pgstatus.settings import variables as v
from pgstatus.settings.hosts import split_list
from pgstatus.settings.nats import Nats
from pgstatus.settings.reader import Reader
from pgstatus.settings.secrets import read_tokens
from pgstatus.settings.tls import client_context
from pgstatus.settings.upstream import Address, parse_address


@dataclass(frozen=True, slots=True)
class Fleet:
    """Whose evidence an instance follows."""

    upstreams: tuple[Address, ...] = field(repr=False)
    nats: Nats | None
    """One of both is configured."""
    fallback_direct: bool
    """Check the hosts while no evidence arrives."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Their names."""
        names = [address.name for address in self.upstreams]
        servers = () if self.nats is None else self.nats.servers
        return *names, *(f"nats://{server}" for server in servers)


def is_relay(reader: Reader) -> bool:
    """The instance makes no connections to PostgreSQL."""
    follows_nats = reader.is_set(v.NATS) and not reader.is_set(v.HOSTS)
    is_relay = reader.is_set(v.UPSTREAMS) or follows_nats
    return is_relay and reader.read(v.FALLBACK_DIRECT) != "true"


def read_fleet(reader: Reader, nats: Nats | None) -> Fleet | None:
    """None: the instance checks the hosts itself, and publishes its evidence through ``nats``."""
    urls = split_list(reader.read(v.UPSTREAMS), reader.read(v.DELIMITER))
    fallback = reader.read(v.FALLBACK_DIRECT) == "true"
    if not urls and nats is None:
        if fallback:
            reader.refuse(
                v.FALLBACK_DIRECT, f"it requires {v.UPSTREAMS.full_name} or {v.NATS.full_name}"
            )
        return None
    if urls and nats is not None:
        # The URLs are not shown: one may contain a password by mistake.
        reader.problems.append(
            f"{v.UPSTREAMS.full_name}: {v.NATS.full_name} is set too; expected one of them"
        )
    if not urls:
        if reader.is_set(v.HOSTS):
            return Fleet((), nats, fallback) if fallback else None
        if fallback:
            reader.refuse(v.FALLBACK_DIRECT, f"it requires {v.HOSTS.full_name}")
        return Fleet((), nats, fallback)
    if reader.is_set(v.HOSTS) is not fallback:
        expected = (
            f"{v.FALLBACK_DIRECT.full_name}=true requires {v.HOSTS.full_name}"
            if fallback
            else f"{v.HOSTS.full_name} is set too; expected one of them, or "
            f"{v.FALLBACK_DIRECT.full_name}=true"
        )
        reader.problems.append(f"{v.UPSTREAMS.full_name}: {expected}")
    return Fleet(tuple(_addresses(reader, urls)), None, fallback)


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
    reader.warn_if_exposed(v.UPSTREAMS_TOKEN_FILE, file)
    try:
        return read_tokens(file)[0]
    except (OSError, ValueError) as error:
        reader.refuse_file(v.UPSTREAMS_TOKEN_FILE, error)
        return None


def _tls(reader: Reader) -> ssl.SSLContext | None:
    pair = reader.read_pair(v.UPSTREAMS_TLS_CERT, v.UPSTREAMS_TLS_KEY, "a client certificate")
    try:
        return client_context(reader.read(v.UPSTREAMS_TLS_CA), pair)
    except OSError as error:  # ssl.SSLError is one
        reader.problems.append(f"{v.PREFIX}upstreams_tls_*: cannot use the files: {error}")
        return None
