"""A connection with a bookmark."""

import asyncpg

from pgstatus.bookmarks import position
from pgstatus.bookmarks.bookmark import Bookmark


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection of asyncpg. A ``connection_class`` of one's own derives from it."""

    async def bookmark(self) -> Bookmark:
        """The position that covers everything committed so far, for ``acquire(after=…)``.

        InterfaceError: the connection is one to a replica; or a transaction is open, whose position
        is known only after its commit.
        """
        if self.is_in_transaction():
            raise asyncpg.InterfaceError(
                "the position of a write is known after its commit: call bookmark() after the "
                "block of transaction()"
            )
        try:
            row = await self.fetchrow(position.POSITION)
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise asyncpg.InterfaceError(position.ON_REPLICA) from error
        return position.bookmark(*row)
