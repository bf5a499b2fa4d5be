"""An ordinary model: nothing in it refers to the cluster."""

from django.db import models


class Note(models.Model):
    body = models.TextField()  # type: ignore[var-annotated]  # known to its plugin for mypy
