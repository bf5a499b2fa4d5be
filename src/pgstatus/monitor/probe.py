"""Checks of one host: a kept connection, its replacement, one deadline per check.

Whatever a host or libpq does is translated here into an `Observation`, a `Position` or a
`CheckError`. PgBouncer and Odyssey are hosts too, so there are no start-up ``options``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from math import inf
from typing import TypeVar

from pgstatus.clock import now
from pgstatus.core.connections import Usage
from pgstatus.core.snapshot import Observation, Position
from pgstatus.errors import Cause, CheckError
from pgstatus.monitor.login import Login
from pgstatus.monitor.reader import NoTransactionsError, Reader, Shortcoming
from pgstatus.monitor.resolver import PeerWatch, Resolver
from pgstatus.monitor.session import ConnectionLostError, QueryError, Session
from pgstatus.settings.libpq_files import usable_password_file
from pgstatus.settings.secrets import read_secret
from pgstatus.settings.target import Target

T = TypeVar("T")

# The replacement of a kept connection begins at this share of its maximum age.
_RENEW = 0.7
# After a rejected login, while the kept connection works, seconds.
_RETRY = 2.0


class Probe:
    """Checks one host; one check at a time.

    ``on_lost`` is called, on the event loop, when the kept connection breaks between two checks.
    """

    def __init__(self, target: Target, on_lost: Callable[[], None]) -> None:
        self._target = target
        self._on_lost = on_lost
        self._port = int(target.params.get("port", "5432"))
        self._resolver = Resolver(target.params.get("hostaddr") or target.params["host"])
        self._peer = PeerWatch(self._resolver)
        self._login = Login(str(target))
        self._logging_in: asyncio.Task[CheckError | None] | None = None
        self._session: Session | None = None
        self._next: Session | None = None
        """Replaces the kept session as soon as no query uses that."""
        self._in_use = False
        self._renew_at = inf
        """When to log in anew, although the kept connection works."""
        self._admits: bool | None = None
        self._refusal: str | None = None
        self._leaving = False
        """The host announced a shutdown to a new session while the kept one works."""
        self._reader = Reader(str(target), target.params.get("user", ""))

    @property
    def shortcomings(self) -> tuple[Shortcoming, ...]:
        """What the role may not read, as far as it was found."""
        return self._reader.shortcomings

    async def check(self) -> Observation:
        """Query the host; CheckError if that fails or takes too long."""
        self._renew()
        observation = await self._within_deadline(self._reader.observe)
        addresses = {*observation.addresses, *self._peer.known}
        if self._session is not None:
            addresses.add(self._session.address)
        if not self._target.max_age:
            self._drop()
        return replace(
            observation,
            addresses=frozenset(a for a in addresses if not a.startswith("/")),
            admits=self._admits,
            refusal=self._refusal,
        )

    async def position(self) -> Position:
        """Query the position alone; CheckError if that fails or takes too long."""
        return await self._within_deadline(self._reader.position)

    async def usages(self) -> tuple[Usage, ...]:
        """Query how far the limits on connections are used; CheckError if that fails."""
        return await self._within_deadline(self._reader.usages)

    def close(self) -> None:
        """Close the connection and abandon a login in progress."""
        if self._logging_in is not None:
            self._logging_in.cancel()
        self._drop()
        if self._next is not None:
            self._next.close()

    async def _within_deadline(self, observe: Callable[[Session], Awaitable[T]]) -> T:
        limit = self._target.query_timeout
        self._in_use = True
        try:
            async with asyncio.timeout(limit):
                return await self._with_session(observe)
        except TimeoutError:
            if self._session is None:
                raise self._no_connection(limit) from None
            self._drop()
            raise CheckError(Cause.TIMEOUT, f"no answer to the query within {limit:g} s") from None
        except (QueryError, ConnectionLostError, ValueError) as error:
            self._drop()
            if isinstance(error, ValueError):
                raise CheckError(Cause.PROTOCOL, f"invalid response: {error}") from None
            cause = Cause.QUERY if isinstance(error, QueryError) else Cause.CONNECT
            raise CheckError(cause, str(error)) from None
        except BaseException:
            self._drop()
            raise
        finally:
            self._in_use = False
            self._replace()

    async def _with_session(self, observe: Callable[[Session], Awaitable[T]]) -> T:
        has_logged_in = False
        while True:
            is_new = self._take_next()
            if self._session is None or self._session.closed:
                self._drop()
                if has_logged_in:
                    raise ConnectionLostError("the server closed the connection after the login")
                has_logged_in = True
                error = await asyncio.shield(self._log_in())
                if error is not None:
                    raise self._of_check(error)
                continue
            try:
                return await observe(self._session)
            except NoTransactionsError:
                self._drop()
                has_logged_in = False
            except ConnectionLostError:
                self._drop()
                if is_new:
                    raise
                # It may have broken since the last check; a new login shows whether the host
                # failed.

    def _renew(self) -> None:
        """Log in anew in the background if the kept connection is old."""
        session = self._session
        if session is None:
            return
        if self._leaving or self._peer.has_moved(session.address, now()):
            self._drop()
        elif now() >= self._renew_at:
            self._renew_at = inf
            self._log_in()

    def _log_in(self) -> "asyncio.Task[CheckError | None]":
        """The login in progress, or a new one: afterwards there is a next session, or an error."""
        if self._logging_in is None or self._logging_in.done():
            self._logging_in = asyncio.get_running_loop().create_task(self._new_session())
        return self._logging_in

    async def _new_session(self) -> CheckError | None:
        limit = self._target.connect_timeout
        try:
            async with asyncio.timeout(limit):
                addresses = await self._addresses()
                # Less than the limit, so that the errors of all addresses are reported.
                connected = await self._login.connect(
                    addresses, self._port, self._params, 0.95 * limit
                )
            self._next = Session(connected.pgconn, connected.address, self._on_lost)
        except TimeoutError:
            return self._rejected(self._no_connection(limit))
        except CheckError as error:
            return self._rejected(error)
        except Exception as error:
            return self._rejected(CheckError(Cause.CONNECT, f"login failed: {error!r}"))
        self._peer.connected(addresses, now())
        self._admits, self._refusal, self._leaving = True, None, False
        self._renew_at = now() + (_RENEW * self._target.max_age or inf)
        self._reader.connected()
        self._replace()
        return None

    def _rejected(self, error: CheckError) -> CheckError:
        self._admits, self._refusal = False, str(error)
        self._renew_at = now() + min(_RETRY, self._target.max_age or inf)
        if error.down and error.cause is Cause.REJECTED and self._session is not None:
            # The kept session would delay the shutdown.
            self._leaving = True
            self._on_lost()
        return error

    def _of_check(self, error: CheckError) -> CheckError:
        """The error of the check that waits for a login which has failed with ``error``."""
        if error.cause is not Cause.TIMEOUT:
            return error
        # The same text as that of a check that ends before the login.
        return self._no_connection(min(self._target.query_timeout, self._target.connect_timeout))

    def _no_connection(self, limit: float) -> CheckError:
        blocked = self._login.blocked_for
        # A thread that is only late is not reported.
        is_blocked = blocked is not None and blocked > self._target.connect_timeout + 1
        reason = f": libpq has not returned for {blocked:.0f} s" if is_blocked else ""
        return CheckError(Cause.TIMEOUT, f"no connection within {limit:g} s{reason}")

    async def _addresses(self) -> tuple[str, ...]:
        try:
            return await self._resolver.addresses()
        except OSError as error:
            # Without "[Errno -2]".
            reason = error.strerror or error
            raise CheckError(Cause.RESOLVE, f"cannot resolve the host name: {reason}") from None

    def _params(self) -> Mapping[str, str]:
        """The connection parameters; called in the thread of the login."""
        params = {
            # Without one, OpenSSL would ask on the terminal for that of an encrypted key.
            "sslpassword": "none",
            **self._target.params,
            # Text is read as UTF-8, whatever the database or PGCLIENTENCODING says.
            "client_encoding": "UTF8",
        }
        # Empty: as if it was not set.
        params["application_name"] = params.get("application_name") or self._target.application_name
        if file := params.get("passfile"):
            params["passfile"] = usable_password_file(file)
        if self._target.password_file is not None:
            try:
                params["password"] = read_secret(self._target.password_file)
            except (OSError, ValueError) as error:
                message = f"cannot read the password file: {error}"
                raise CheckError(Cause.PASSWORD, message) from None
        return params

    def _replace(self) -> None:
        """End the kept session if there is a newer one: both count towards the server's limits."""
        if self._session is not None and not self._in_use:
            self._take_next()

    def _take_next(self) -> bool:
        """Use the session of the last login from now on; False: there is no new one."""
        if self._next is None:
            return False
        self._drop()
        self._session, self._next = self._next, None
        return True

    def _drop(self) -> None:
        self._leaving = False
        if self._session is not None:
            self._session.close()
            self._session = None
