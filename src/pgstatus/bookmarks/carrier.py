"""How a bookmark travels: signed, in cookies or in a header.

Responses that overlap may arrive in any order, and a cookie that arrives replaces the one of the
same name. So each response sets a cookie with a name of its own. The bookmarks of all cookies of a
request are merged, and the next response that writes replaces them by one that covers them all:
a cookie is deleted only by a response whose own bookmark includes it. This needs no memory on the
server and is correct with any number of workers, tabs and parallel requests.
"""

import json
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from itsdangerous import BadData, URLSafeTimedSerializer

from pgstatus.bookmarks.bookmark import Bookmark, Marks, merge

Header = tuple[bytes, bytes]


class Signer:
    """Converts bookmarks to text and back; forged or outdated text is ignored.

    Without the signature, a client could direct the reads of a whole service to the master with a
    position that no replica will reach.
    """

    def __init__(self, secret: str | Sequence[str], max_age: int) -> None:
        secrets_ = [secret] if isinstance(secret, str) else list(secret)
        if not all(secrets_) or not secrets_:
            raise ValueError("secret must not be empty: any client could sign a bookmark")
        self._serializer = URLSafeTimedSerializer(
            secrets_, salt="pg-status bookmark", serializer=_Json
        )
        self._max_age = max_age

    def sign(self, marks: Marks) -> str:
        return str(
            self._serializer.dumps(
                {
                    name: (
                        mark.timeline,
                        mark.lsn,
                        # Rounded up once: the next response signs the same time again.
                        math.ceil(mark.pinned_until) if mark.is_pinned() else 0,
                    )
                    for name, mark in marks.items()
                }
            )
        )

    def read(self, signed: bytes) -> Marks | None:
        """The bookmarks; None if they are not valid."""
        try:
            marks = self._serializer.loads(signed, max_age=self._max_age)
            return {name: Bookmark(*mark) for name, mark in marks.items()}
        except (BadData, TypeError, AttributeError):
            return None


class Carrier(Protocol):
    """Where bookmarks stand in requests and responses."""

    def brought(self, headers: Iterable[Header]) -> tuple[Marks, list[bytes]]:
        """The merged bookmarks of a request, and what the next response may replace."""

    def headers(self, marks: Marks, replaced: list[bytes]) -> Iterator[Header]:
        """The headers of a response that brings ``marks``, which cover those of ``replaced``."""


class HeaderCarrier:
    """A header of the response, which the client sends back; several values are merged."""

    def __init__(self, name: str, signer: Signer) -> None:
        self._name = name.encode("ascii").lower()
        self._signer = signer

    def brought(self, headers: Iterable[Header]) -> tuple[Marks, list[bytes]]:
        marks: Marks = {}
        for name, value in headers:
            if bytes(name).lower() == self._name:
                for signed in bytes(value).split(b","):
                    merge(marks, self._signer.read(signed.strip()) or {})
        return marks, []

    def headers(self, marks: Marks, replaced: list[bytes]) -> Iterator[Header]:
        yield self._name, self._signer.sign(marks).encode("ascii")


class CookieCarrier:
    """Cookies named ``name`` or ``name-…``."""

    def __init__(self, name: str, signer: Signer, max_age: int, *, secure: bool) -> None:
        self._name = name.encode("ascii")
        self._signer = signer
        self._max_age = max_age
        self._attributes = "; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
        self._ours = re.compile(re.escape(self._name) + rb"(-[0-9a-f]+)?")

    def brought(self, headers: Iterable[Header]) -> tuple[Marks, list[bytes]]:
        marks: Marks = {}
        names = []
        for name, signed in _cookies(headers):
            if self._ours.fullmatch(name) and (read := self._signer.read(signed)) is not None:
                merge(marks, read)
                names.append(name)
        return marks, names

    def headers(self, marks: Marks, replaced: list[bytes]) -> Iterator[Header]:
        name = f"{self._name.decode('ascii')}-{secrets.token_hex(4)}"
        yield self._set(name, self._signer.sign(marks), self._max_age)
        for old in replaced:
            yield self._set(old.decode("ascii"), "", 0)

    def _set(self, name: str, value: str, max_age: int) -> Header:
        cookie = f"{name}={value}; Path=/; Max-Age={max_age}{self._attributes}"
        return b"set-cookie", cookie.encode("ascii")


def _cookies(headers: Iterable[Header]) -> Iterator[tuple[bytes, bytes]]:
    for header, value in headers:
        if bytes(header).lower() == b"cookie":
            for pair in bytes(value).split(b";"):
                name, _, content = pair.strip().partition(b"=")
                yield name, content


class _Json:
    """JSON without white space: a cookie is sent with every request."""

    @staticmethod
    def dumps(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    @staticmethod
    def loads(text: str) -> Any:
        return json.loads(text)
