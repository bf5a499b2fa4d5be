"""The body of a streaming response is produced after the middlewares; it belongs to the request."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from django.http import FileResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from pgstatus.bookmarks.bookmark import Notes, current_notes


def route_body(response: HttpResponseBase, notes: Notes) -> None:
    """Let the reads of the body use the hosts of the request."""
    # The server sends a file itself, if it finds it in the response.
    if not isinstance(response, StreamingHttpResponse) or isinstance(response, FileResponse):
        return
    body = response.streaming_content
    if isinstance(body, AsyncIterator):
        response.streaming_content = _async_parts(body, notes)
    else:
        response.streaming_content = _parts(iter(body), notes)


def _parts(body: Iterator[bytes], notes: Notes) -> Iterator[bytes]:
    while True:
        with _noting(notes):  # not around the yield, which continues in the context of the server
            try:
                part = next(body)
            except StopIteration:
                return
        yield part


async def _async_parts(body: AsyncIterator[bytes], notes: Notes) -> AsyncIterator[bytes]:
    while True:
        with _noting(notes):
            try:
                part = await anext(body)
            except StopAsyncIteration:
                return
        yield part


@contextmanager
def _noting(notes: Notes) -> Iterator[None]:
    token = current_notes.set(notes)
    try:
        yield
    finally:
        current_notes.reset(token)
