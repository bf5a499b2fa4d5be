"""Which reads of a piece of code may use replicas.

By default those of a request, if it passes through the middleware; code outside of requests
(management commands, task queues) reads from the master.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pgstatus.bookmarks.bookmark import Notes, current_notes


def use_master() -> None:
    """Let the remaining reads of this request, or of `read_from_replicas`, use the master."""
    notes = current_notes.get()
    if notes is not None:
        notes.master_only = True


@contextmanager
def read_from_replicas(*, pin_seconds: float = 10.0) -> Iterator[None]:
    """Route the reads of this block, or of a decorated function, as those of a request.

    A read that follows a write of the block uses the master. If the position of a write cannot be
    determined, reads use the master for ``pin_seconds``.
    """
    token = current_notes.set(Notes({}, pin_seconds))
    try:
        yield
    finally:
        current_notes.reset(token)
