"""The tests of an application, which Django's test runner executes."""

from django.db import connections
from django.test import Client, TestCase, TransactionTestCase
from examples.django.notes.models import Note


class InOneTransaction(TestCase):
    """It declares no other database than the default one."""

    def test_requests_see_what_the_test_has_written(self) -> None:
        note = Note.objects.create(body="uncommitted")
        response = Client().get(f"/notes/{note.pk}")
        assert response.json()["body"] == "uncommitted"


class WithCommits(TransactionTestCase):
    databases = {"default", "replica", "users"}  # noqa: RUF012  # as Django documents it

    def test_requests_see_what_the_test_has_written(self) -> None:
        note = Note.objects.create(body="committed")
        response = Client().get(f"/notes/{note.pk}")
        assert response.json()["body"] == "committed"

    def test_the_replica_is_the_master(self) -> None:
        Note.objects.create(body="committed")
        assert Note.objects.using("replica").count() == 1
        assert Note.objects.using("users").count() == 0
        assert connections["replica"].settings_dict["NAME"] == "test_postgres"
