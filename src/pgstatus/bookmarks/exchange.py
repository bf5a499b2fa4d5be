"""The bookmarks of a request and of its response, for the middlewares of every framework."""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pgstatus.bookmarks.bookmark import Notes
from pgstatus.bookmarks.carrier import Carrier, CookieCarrier, Header, HeaderCarrier, Signer

logger = logging.getLogger("pgstatus.bookmarks")

# Parallel requests leave a cookie each. With more than this, a response that only reads also
# replaces them by one, so that the request header stays small.
MANY_COOKIES = 8

# What names of cookies and of headers may consist of.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Bookmarks:
    """How the bookmarks of an application travel. The options are those of the middlewares.

    secret: signs the bookmark; the last of several signs, all are accepted.
    carrier: ``cookie``, or a ``header`` of the response that the client sends back unchanged. A
        client with parallel requests sends all values that it has received, comma-separated.
    name: prefix of the cookies' names, or name of the header.
    max_age: seconds for which a bookmark is valid; more than replicas are ever late.
    pin_seconds: seconds of reads on the master if the position of a write is not known.
    secure: whether the cookie is for HTTPS only.
    """

    def __init__(
        self,
        *,
        secret: str | Sequence[str],
        carrier: Literal["cookie", "header"] = "cookie",
        name: str = "pg-bookmark",
        max_age: int = 60,
        pin_seconds: float = 10.0,
        secure: bool = True,
    ) -> None:
        """ValueError: an option is not valid."""
        if not isinstance(secret, Sequence) or not all(isinstance(each, str) for each in secret):
            raise ValueError("secret must be text, or a sequence of texts")
        _check(carrier in ("cookie", "header"), "carrier", carrier, "'cookie' or 'header'")
        is_token = isinstance(name, str) and _TOKEN.fullmatch(name) is not None
        _check(is_token, "name", name, "ASCII letters, digits and hyphens")
        _check(type(max_age) is int and max_age > 0, "max_age", max_age, "an integer > 0")
        is_number = type(pin_seconds) in {int, float} and 0 <= pin_seconds < math.inf
        _check(is_number, "pin_seconds", pin_seconds, "a number >= 0")
        _check(isinstance(secure, bool), "secure", secure, "True or False")
        signer = Signer(secret, max_age)
        self.carrier: Carrier = (
            CookieCarrier(name, signer, max_age, secure=secure)
            if carrier == "cookie"
            else HeaderCarrier(name, signer)
        )
        self._pin_seconds = pin_seconds
        self._max_age = max_age
        self._warns_of_http = carrier == "cookie" and secure

    def of_request(self, headers: Iterable[Header], scheme: str | None) -> "Exchange":
        """The bookmarks of a request with these headers."""
        headers = tuple(headers)
        marks, replaced = self.carrier.brought(headers)
        notes = Notes(marks, self._pin_seconds, self._max_age)
        is_http = self._warns_of_http and scheme == "http" and not _is_proxied_https(headers)
        return Exchange(self, notes, replaced, is_http=is_http)

    def warn_of_http(self) -> None:
        """Warn, once, that clients do not return the cookie."""
        if self._warns_of_http:
            self._warns_of_http = False
            logger.warning(
                "the bookmark cookie has the attribute Secure, but the request came over plain "
                "HTTP: most clients do not send the cookie back, so their reads may not see their "
                "writes. Use secure=False for development without TLS. If a proxy terminates TLS, "
                "let it send X-Forwarded-Proto."
            )


class Exchange:
    """The bookmarks of one request; ``notes`` belongs into ``current_notes`` while it is served."""

    def __init__(
        self, bookmarks: Bookmarks, notes: Notes, replaced: list[bytes], *, is_http: bool
    ) -> None:
        self.notes = notes
        self._bookmarks = bookmarks
        self._replaced = replaced
        self._is_http = is_http

    def headers(self) -> list[Header]:
        """What the headers of the response are extended by, at the moment when they are sent.

        A transaction that is not finished pins the client, because its position is known too late.
        """
        self.notes.pin_unfinished()
        if not (self.notes.wrote or len(self._replaced) > MANY_COOKIES):
            return []
        if self._is_http:
            self._bookmarks.warn_of_http()
        return list(self._bookmarks.carrier.headers(self.notes.marks, self._replaced))

    def must_respond(self) -> bool:
        """Whether the client needs a response although the application has raised an error.

        Something was committed, or may have been: without a bookmark, its reads could be stale.
        """
        self.notes.pin_unfinished()
        return self.notes.wrote


def _check(is_valid: bool, name: str, value: object, expected: str) -> None:
    if not is_valid:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def _is_proxied_https(headers: Iterable[Header]) -> bool:
    return any(
        (name.lower() == b"x-forwarded-proto" and b"https" in value.lower())
        or (name.lower() == b"forwarded" and b"proto=https" in value.lower())
        for name, value in headers
    )
