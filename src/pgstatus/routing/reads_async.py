"""The host for a read. `reads` is generated from this file: ``make unasync``."""

from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.client import AsyncPgStatusClient, ChosenHost, ClientError, parse_lsn
from pgstatus.client.errors import WITHDRAWN
from pgstatus.routing.following import Question


async def choose(
    client: AsyncPgStatusClient,
    question: Question,
    after: Bookmark | None = None,
    wait_ms: int | None = None,
) -> ChosenHost:
    """The master, or a replica in turn; with ``after``, one that has replayed it, or the master.

    ``wait_ms`` is how long pg-status may wait for such a replica.
    """
    name, lag_ms, lag_bytes, fallback = question
    if name == "master" or (after is not None and after.is_pinned()):
        return await client.master()
    if after is None:
        return await client.replica(lag_ms=lag_ms, lag_bytes=lag_bytes, fallback=fallback)
    try:
        chosen = await client.replica(
            lag_ms=lag_ms,
            lag_bytes=lag_bytes,
            fallback=fallback,
            min_lsn=after.position(),
            wait_ms=wait_ms,
        )
    except WITHDRAWN:
        # Even the known master is older than what was written, or there are several.
        raise
    except ClientError:
        # No answer, or one of a pg-status that does not know timelines. The master is cached for
        # longer than the positions of replicas.
        return await client.master()
    return chosen if _has(chosen, after) else await client.master()


def _has(chosen: ChosenHost, mark: Bookmark) -> bool:
    """Whether this is certain; a pg-status that does not know ``min_lsn`` ignores it."""
    if chosen.role == "master":
        return True
    return chosen.lsn is not None and parse_lsn(chosen.lsn) >= parse_lsn(mark.lsn)
