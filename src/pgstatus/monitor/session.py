"""A logged-in connection on the event loop: one query at a time, in one round trip.

The simple query protocol of libpq is used without psycopg's cursors: a query may contain several
statements, which is what PgBouncer's pooling modes allow, and costs little.
"""

import asyncio
from collections.abc import Callable

import psycopg
from psycopg import pq

from pgstatus.errors import in_a_line
from pgstatus.monitor.limit import ReadLimit, TooMuchDataError
from pgstatus.monitor.threads import wake

Values = tuple[bytes | None, ...]
"""One row in text format."""

# BEGIN, SET, SELECT and COMMIT, and a ROLLBACK before.
_MAX_RESULTS = 8
_HAS_ROWS = pq.ExecStatus.TUPLES_OK
_SUCCEEDED = {pq.ExecStatus.COMMAND_OK, _HAS_ROWS}
_FAILED = pq.ExecStatus.FATAL_ERROR


class QueryError(Exception):
    """The server rejected a query; the connection remains usable."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(in_a_line(message))
        self.sqlstate = sqlstate


class ConnectionLostError(Exception):
    """The connection broke, or the server announced that it closes it."""


class Session:
    """Takes over ``pgconn``. ``on_lost`` is called if it breaks between two queries."""

    def __init__(self, pgconn: pq.abc.PGconn, address: str, on_lost: Callable[[], None]) -> None:
        self.address = address
        self._pgconn = pgconn
        self._on_lost = on_lost
        self._descriptor = pgconn.socket
        self._limit = ReadLimit()
        self._awaited: asyncio.Future[None] | None = None
        """Completed when the socket was read during a query."""
        self._loop = asyncio.get_running_loop()
        pgconn.nonblocking = 1
        self._loop.add_reader(self._descriptor, self._readable)

    @property
    def closed(self) -> bool:
        return self._descriptor < 0

    @property
    def server_pid(self) -> int:
        """The server process, as reported at the login; a pooler reports a number of its own."""
        return self._pgconn.backend_pid

    def close(self) -> None:
        """Close the connection; may be called more than once."""
        if not self.closed:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._descriptor = -1
            self._pgconn.finish()

    async def query(self, statements: str) -> Values:
        """The single row that the statements return.

        QueryError: the server rejected them; ValueError: the response is not valid. Close the
        session if this is cancelled or raises anything else.
        """
        self._limit.reset()
        if self._pgconn.transaction_status == pq.TransactionStatus.INERROR:
            statements = f"ROLLBACK; {statements}"
        try:
            self._pgconn.send_query(statements.encode())
            while self._pgconn.flush():
                await self._writable()
            return _row(await self._results())
        except psycopg.Error as error:
            raise ConnectionLostError(in_a_line(str(error))) from None
        except TooMuchDataError as error:
            raise ValueError(str(error)) from None

    async def _results(self) -> list[pq.abc.PGresult]:
        results: list[pq.abc.PGresult] = []
        while True:
            while self._pgconn.is_busy():
                self._awaited = self._loop.create_future()
                try:
                    await self._awaited
                finally:
                    self._awaited = None
            result = self._pgconn.get_result()
            if result is None:
                return results
            results.append(result)
            if result.status not in _SUCCEEDED | {_FAILED} or len(results) > _MAX_RESULTS:
                raise ValueError("unexpected response to a query")
            if self._pgconn.status == pq.ConnStatus.BAD:
                raise ConnectionLostError(_message(result))

    async def _writable(self) -> None:
        writable = self._loop.create_future()
        self._loop.add_writer(self._descriptor, wake, writable)
        try:
            await writable
        finally:
            self._loop.remove_writer(self._descriptor)

    def _readable(self) -> None:
        awaited, failure, is_lost = self._awaited, None, False
        try:
            self._limit.take(self._descriptor)
            self._pgconn.consume_input()
            if self._pgconn.ssl_in_use and self._pgconn.is_busy():
                # OpenSSL may hold the rest of a record, for which the socket is not readable.
                self._pgconn.consume_input()
            if awaited is None:
                is_lost = self._is_lost()
        except Exception as error:  # whatever a host sends harms this session only
            failure = error
        if awaited is None:
            if is_lost or failure is not None:
                self.close()
                self._on_lost()
        elif failure is None:
            wake(awaited)
        elif not awaited.done():
            awaited.set_exception(failure)

    def _is_lost(self) -> bool:
        """Process what arrived between two queries: a changed parameter, or the end."""
        self._pgconn.is_busy()
        while self._pgconn.notifies() is not None:
            continue
        return self._pgconn.status == pq.ConnStatus.BAD


def _row(results: list[pq.abc.PGresult]) -> Values:
    for result in results:
        if result.status == _FAILED:
            sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            raise QueryError(_message(result), sqlstate)
    rows = [result for result in results if result.status == _HAS_ROWS]
    if len(rows) != 1 or rows[0].ntuples != 1:
        raise ValueError(f"expected one row, got {sum(result.ntuples for result in rows)}")
    return tuple(rows[0].get_value(0, column) for column in range(rows[0].nfields))


def _message(result: pq.abc.PGresult) -> str:
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return message.decode(errors="replace").partition("\n")[0] or "connection closed"
