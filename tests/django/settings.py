"""The settings of the example, and a second database on the same cluster."""

from examples.django.settings import *  # noqa: F403
from examples.django.settings import DATABASES, database

ROOT_URLCONF = "tests.django.urls"

# Two masters have the URL, so the replica has to name its own.
DATABASES["users"] = database() | {"NAME": "users"}
DATABASES["users_replica"] = database(role="replica", master="users") | {"NAME": "users"}
DATABASES["replica"]["OPTIONS"]["pg_status"]["master"] = "default"
DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
