"""The tests of an application, which Django's test runner executes."""

import pytest
from django.db import connections, transaction
from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase
from examples.django.notes.models import Note


class InOneTransaction(TestCase):
    """It declares no other database than the default one."""

    def test_requests_see_what_the_test_has_written(self) -> None:
        note = Note.objects.create(body="uncommitted")
        response = Client().get(f"/notes/{note.pk}")
        assert response.json()["body"] == "uncommitted"


class NamingTheReplica(TestCase):
    """As Django requires, it declares the aliases that its code names."""

    databases = {"default", "replica"}  # noqa: RUF012  # as Django documents it

    @classmethod
    def setUpTestData(cls) -> None:
        Note.objects.create(body="of the class")

    def test_the_replica_shows_what_the_test_has_written(self) -> None:
        Note.objects.create(body="uncommitted")
        bodies = Note.objects.using("replica").order_by("id").values_list("body", flat=True)
        assert list(bodies) == ["of the class", "uncommitted"]
        with connections["replica"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM notes_note")
            assert cursor.fetchone() == (2,)

    def test_the_writes_of_other_tests_are_rolled_back(self) -> None:
        with transaction.atomic(using="replica"):
            assert Note.objects.using("replica").count() == 1
        assert Note.objects.count() == 1


class WithoutDatabases(SimpleTestCase):
    """It runs first, and changes nothing for the other tests."""

    def test_no_database_may_be_used(self) -> None:
        for alias in ("default", "replica"):
            with pytest.raises(AssertionError, match="not allowed"):
                Note.objects.using(alias).count()


class NotNamingTheReplica(TestCase):
    """Django refuses an alias that is not declared."""

    def test_the_replica_may_not_be_used(self) -> None:
        with pytest.raises(AssertionError, match="not allowed"):
            Note.objects.using("replica").count()
        assert Note.objects.count() == 0


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
