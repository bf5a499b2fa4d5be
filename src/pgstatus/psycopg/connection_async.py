"""A connection that knows its host and has a bookmark.

`connection` is generated from this file: ``make unasync``.
"""

from typing import Any, ClassVar, Protocol

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.rows import Row, tuple_row

from pgstatus.bookmarks import position
from pgstatus.bookmarks.bookmark import Bookmark
from pgstatus.psycopg.compat import Self, default_timeout


class AsyncTarget(Protocol):
    """The host of the connections of one pool.

    parameters: where to connect to.
    """

    parameters: dict[str, Any]

    def connected(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """A connection was established."""

    async def not_connected(self, error: psycopg.Error) -> None:
        """An attempt to connect has failed."""

    def failed(self, error: psycopg.Error, *, is_closed: bool) -> None:
        """A statement has failed. ``is_closed``: the connection is closed since."""


class AsyncConnection(psycopg.AsyncConnection[Row]):
    """A connection of psycopg with a bookmark. A ``connection_class`` of one's own derives from it.

    Its errors are reported to its pool, also those that the application catches.
    """

    _target: ClassVar[AsyncTarget | None] = None

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        target = cls._target
        if target is None:
            return await super().connect(conninfo, **kwargs)
        kwargs = {**default_timeout(conninfo, kwargs), **kwargs, **target.parameters}
        try:
            connection = await super().connect(conninfo, **kwargs)
        except psycopg.Error as error:
            await target.not_connected(error)
            raise
        target.connected(connection)
        return connection

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().wait(*args, **kwargs)
        except psycopg.Error as error:
            if self._target is not None:
                self._target.failed(error, is_closed=self.pgconn.status == ConnStatus.BAD)
            raise

    async def bookmark(self) -> Bookmark:
        """The position that covers everything committed so far, for ``connection(after=…)``.

        ProgrammingError: the connection is one to a replica; or a transaction is open, whose
        position is known only after its commit.
        """
        if self.info.transaction_status != TransactionStatus.IDLE:
            raise psycopg.ProgrammingError(
                "the position of a write is known after its commit: call bookmark() after "
                "commit(), or after the block of transaction()"
            )
        autocommit = self.autocommit
        # A flag of the client, not a round trip: the query begins no transaction.
        await self.set_autocommit(True)
        try:
            async with self.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(position.POSITION)
                row = await cursor.fetchone()
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise psycopg.ProgrammingError(position.ON_REPLICA) from error
        finally:
            if not self.closed:
                await self.set_autocommit(autocommit)
        assert row is not None  # noqa: S101  the query has no condition
        return position.bookmark(*row)

    def is_lost(self) -> bool:
        """Whether the server has ended this idle connection. Nothing is sent."""
        try:
            # The second time for the end of the stream, which follows a message about it.
            self.pgconn.consume_input()
            self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return self.pgconn.status == ConnStatus.BAD
