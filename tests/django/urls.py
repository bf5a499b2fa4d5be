"""Views that the example does not have."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path
from examples.django.notes.models import Note


def fails(request: HttpRequest) -> HttpResponse:
    """Commits, then fails."""
    Note.objects.create()
    raise RuntimeError("after the commit")


async def write(request: HttpRequest) -> HttpResponse:
    note = await Note.objects.acreate(body="async")
    return HttpResponse(str(note.pk))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """The aliases that the parts of its body are read from."""

    def body() -> Iterator[str]:
        yield Note.objects.db
        Note.objects.create()
        yield f" {Note.objects.db}"

    return StreamingHttpResponse(body())


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[str]:
        for _ in range(2):
            yield await sync_to_async(lambda: Note.objects.db)()

    return StreamingHttpResponse(body())


urlpatterns = [
    path("stream", stream),
    path("async/stream", async_stream),
    path("fails", fails),
    path("write", write),
    path("", include("examples.django.urls")),
]
