"""One request of a WSGI application, in a context of its own up to the end of its response.

The application and the iterable that it returns run in a copy of the context of the server's
thread, in whatever thread the server continues them: nothing that is set in context variables
remains for the next request. The headers of the response are passed on when the application has
returned, or with the first part of a streamed body, so that middlewares can act before them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from types import TracebackType
from typing import Any

from pgstatus.sqlalchemy.streamed import is_streamed

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class Exchange(ABC):
    """A request and its response, which is iterated by the server."""

    def __init__(self, app: WSGIApp, environ: Environ, start_response: StartResponse) -> None:
        self.environ = environ
        self._app = app
        self._start_response = start_response
        self._context = copy_context()
        self._head: tuple[str, Headers, ExcInfo | None] | None = None
        self._sent = False
        self._write: Write | None = None
        self._body: Iterable[bytes] = ()
        self._parts: Iterator[bytes] = iter(())
        self._complete = False
        self._left = False

    @abstractmethod
    def enter(self) -> None:
        """The application is about to be called."""

    @abstractmethod
    def head(self, status: int, headers: Headers, *, streamed: bool) -> Headers:
        """The headers to be sent, now. An error is passed on to the server instead.

        streamed: the body may run code of the application.
        """

    def complete(self, status: int) -> None:  # noqa: B027
        """The last part of the body has been produced, or the body was closed after it."""

    @abstractmethod
    def failed(self, error: Exception) -> tuple[str, Headers, bytes] | None:
        """The application has raised an error. The response to it; None: it is passed on.

        If the response has started, the error is passed on in any case.
        """

    def leave(self) -> None:  # noqa: B027
        """The request has ended; called once."""

    def run(self) -> Iterable[bytes]:
        """Call the application; the body of its response."""
        return self._context.run(self._call)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(self._next)

    def close(self) -> None:
        """Called by the server when the response has ended, also if the client disconnected."""
        self._context.run(self._close)

    def _call(self) -> Iterable[bytes]:
        try:
            self.enter()
            self._body = self._app(self.environ, self._record)
            runs_code = not (isinstance(self._body, list | tuple) or self._is_file())
            if self._head is not None and not (runs_code and self._is_streamed()):
                self._send_head(streamed=False)
                if not runs_code:
                    self._leave()
                    return self._body
            self._parts = iter(self._body)
        except BaseException as error:
            with ExitStack() as stack:
                stack.callback(self._leave)
                stack.callback(self._close_body)
                if not self._has_responded(error):
                    raise
                stack.pop_all()
        return self

    def _next(self) -> bytes:
        try:
            part = next(self._parts, None)
            if part is None:
                self._complete = True
                self.complete(self._status())
            if self._head is not None and not self._sent:
                self._send_head(streamed=self._is_streamed())
        except Exception as error:
            self._complete = False
            if not self._has_responded(error):
                raise
            part = next(self._parts)
        if part is None:
            raise StopIteration
        return part

    def _close(self) -> None:
        try:
            self._close_body()
            if self._complete:
                self.complete(self._status())
        except Exception as error:
            self.failed(error)
            raise
        finally:
            self._leave()

    def _close_body(self) -> None:
        body, self._body = self._body, ()
        if hasattr(body, "close"):
            body.close()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self.leave()

    def _record(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
        self._head = status, headers, exc_info
        if self._sent:
            return self._start_response(status, headers, exc_info)  # raises, as WSGI demands
        return self._write_directly

    def _write_directly(self, data: bytes) -> object:
        if not self._sent:
            self._send_head(streamed=self._is_streamed())
        return self._write(data) if self._write is not None else None

    def _send_head(self, *, streamed: bool) -> None:
        assert self._head is not None  # noqa: S101
        status, headers, exc_info = self._head
        headers = self.head(self._status(), headers, streamed=streamed)
        arguments = (status, headers) if exc_info is None else (status, headers, exc_info)
        self._head = status, headers, None  # the traceback refers to this object
        self._sent = True
        self._write = self._start_response(*arguments)

    def _has_responded(self, error: BaseException) -> bool:
        response = self.failed(error) if isinstance(error, Exception) else None
        if response is None or self._sent:
            return False
        status, headers, body = response
        self._head, self._sent = (status, headers, None), True
        self._start_response(status, headers)
        self._parts = iter([body])
        return True

    def _status(self) -> int:
        return 0 if self._head is None else int(self._head[0][:3])

    def _is_streamed(self) -> bool:
        assert self._head is not None  # noqa: S101
        return is_streamed(self._status(), (name for name, _ in self._head[1]))

    def _is_file(self) -> bool:
        wrapper = self.environ.get("wsgi.file_wrapper")
        return isinstance(wrapper, type) and isinstance(self._body, wrapper)
