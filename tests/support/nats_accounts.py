"""An operator, accounts and users of NATS, with JSON web tokens; what the tool ``nsc`` makes.

Source: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/jwt
"""

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

import nkeys


def _pair(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _token(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, claims: Mapping[str, Any]) -> str:
    """A token about ``subject``, signed by ``issuer``."""
    body = {
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": claims["type"],
        "nats": {**claims, "version": 2},
    }
    digest = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (header, body))
    text = ".".join(map(_base64, parts))
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


class Accounts:
    """An operator with a system account and one account that may use JetStream."""

    def __init__(self) -> None:
        operator = _pair(nkeys.PREFIX_BYTE_OPERATOR)
        system = _pair(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = _pair(nkeys.PREFIX_BYTE_ACCOUNT)
        unlimited = dict.fromkeys(
            ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
        ) | {"wildcards": True}
        storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        key = system.public_key.decode()
        tokens = {
            key: _token(operator, system, {"type": "account", "limits": unlimited}),
            self._account.public_key.decode(): _token(
                operator, self._account, {"type": "account", "limits": unlimited | storage}
            ),
        }
        self._operator = _token(operator, operator, {"type": "operator", "system_account": key})
        self._tokens = tokens
        self._system = key

    @property
    def configuration(self) -> str:
        """Lines of the configuration of a server."""
        preload = "\n".join(f"  {key}: {token}" for key, token in self._tokens.items())
        return (
            f"operator: {self._operator}\nsystem_account: {self._system}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
        )

    def credentials(self) -> str:
        """The text of a ``.creds`` file of a user."""
        user = _pair(nkeys.PREFIX_BYTE_USER)
        limits = {"subs": -1, "data": -1, "payload": -1}
        token = _token(self._account, user, {"type": "user", **limits})
        jwt, seed = "NATS USER JWT", "USER NKEY SEED"
        return (
            f"-----BEGIN {jwt}-----\n{token}\n------END {jwt}------\n\n"
            f"-----BEGIN {seed}-----\n{user.seed.decode()}\n------END {seed}------\n"
        )
