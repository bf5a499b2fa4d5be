"""The errors of the clients.

::

    ClientError
    ├── UnreachableError (also ConnectionError)  no connection, or the server is not pg-status
    ├── DeadlineError    (also TimeoutError)     no complete response within the deadline
    ├── NotReadyError                            503: no data yet, or the data is too old
    ├── SplitBrainError                          503: several masters, and pg-status names none
    ├── NoHostError      (also LookupError)      404: no host matches
    └── RefusedError     (also ValueError)       other 4xx: invalid parameters, token, certificate

The first three mean that pg-status gave no answer: the clients then use the previous answer for
``stale_if_error`` seconds. The others are answers, and replace the previous one.
"""

from collections.abc import Iterable


class ClientError(Exception):
    """No usable answer from pg-status, and no previous answer that is recent enough."""


class UnreachableError(ClientError, ConnectionError):
    """No connection to pg-status, or the response is not one of pg-status."""


class DeadlineError(ClientError, TimeoutError):
    """The response was not complete within the deadline."""


class NotReadyError(ClientError):
    """503: pg-status has not checked every host yet, or its data is older than it allows."""


class SplitBrainError(ClientError):
    """503: several hosts are writable, and pg-status is configured to name no master then.

    ``hosts`` holds their addresses as ``name:port``.
    """

    def __init__(self, hosts: Iterable[str], message: str) -> None:
        super().__init__(message)
        self.hosts = tuple(hosts)


class NoHostError(ClientError, LookupError):
    """404: no host matches, or pg-status does not know the host."""


class RefusedError(ClientError, ValueError):
    """400, 401, 403 and other 4xx: pg-status refused the request; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


NO_ANSWER = (UnreachableError, DeadlineError, NotReadyError)
"""pg-status gave no answer: a previous answer may be used."""
WITHDRAWN = (NoHostError, SplitBrainError)
"""pg-status withdrew its previous answer: it must not be used again."""
