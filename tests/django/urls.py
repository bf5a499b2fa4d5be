"""Views that the example does not have."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from examples.django.notes.models import Note


def fails(request: HttpRequest) -> HttpResponse:
    """Commits, then fails."""
    Note.objects.create()
    raise RuntimeError("after the commit")


async def write(request: HttpRequest) -> HttpResponse:
    note = await Note.objects.acreate(body="async")
    return HttpResponse(str(note.pk))


urlpatterns = [
    path("fails", fails),
    path("write", write),
    path("", include("examples.django.urls")),
]
