"""Which responses are streamed: their body may still read from the transaction of the handler."""

from collections.abc import Iterable


def is_streamed(status: int, header_names: Iterable[str]) -> bool:
    """Whether a response has a body of unknown length."""
    if status < 200 or status in {204, 304}:
        return False
    return all(name.lower() != "content-length" for name in header_names)
