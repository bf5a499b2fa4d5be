"""Ordinary views; ``host`` in the responses shows which server was used."""

from django.db import connections, transaction
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from examples.django.notes.models import Note


def notes(request: HttpRequest) -> JsonResponse:
    """GET: the latest notes, from a replica. POST: a new one, on the master."""
    if request.method == "POST":
        note = Note.objects.create(body=request.GET.get("body", ""))
        return JsonResponse({"id": note.pk, "host": host_of(note)}, status=201)
    latest = list(Note.objects.order_by("-id")[:10])
    return JsonResponse({"notes": [{"id": note.pk, "body": note.body} for note in latest]})


@require_GET
def note(request: HttpRequest, note_id: int) -> JsonResponse:
    """From a replica that has what this client wrote; from the master if there is none."""
    found = Note.objects.filter(pk=note_id).first()
    if found is None:
        raise Http404
    return JsonResponse({"id": found.pk, "body": found.body, "host": host_of(found)})


@require_GET
async def async_note(request: HttpRequest, note_id: int) -> JsonResponse:
    found = await Note.objects.filter(pk=note_id).afirst()
    if found is None:
        raise Http404
    return JsonResponse({"id": found.pk, "body": found.body})


@require_POST
def move(request: HttpRequest) -> JsonResponse:
    """A transaction: all of its queries use the master."""
    with transaction.atomic():
        note = Note.objects.select_for_update().get(pk=request.GET["from"])
        note.delete()
        moved = Note.objects.create(body=note.body)
    return JsonResponse({"id": moved.pk, "host": host_of(moved)})


def host_of(note: Note) -> str | None:
    """``name:port`` of the server that the note was read from, or written to."""
    host: str | None = getattr(connections[note._state.db or "default"], "host", None)
    return host
