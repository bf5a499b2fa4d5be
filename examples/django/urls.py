"""The routes of the example."""

from django.urls import path

from examples.django.notes import views

urlpatterns = [
    path("notes", views.notes),
    path("notes/<int:note_id>", views.note),
    path("async/notes/<int:note_id>", views.async_note),
    path("move", views.move),
]
