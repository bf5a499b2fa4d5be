"""The settings of the example: everything that concerns pg-status is here."""

import os
from typing import Any

SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "examples.django.urls"
WSGI_APPLICATION = "examples.django.wsgi.application"
USE_TZ = True

INSTALLED_APPS = [
    "pgstatus.django",  # the system checks
    "examples.django.notes",
]
MIDDLEWARE = [
    "pgstatus.django.middleware.ReadYourWritesMiddleware",  # the first
    "django.middleware.common.CommonMiddleware",
]
DATABASE_ROUTERS = ["pgstatus.django.router.ReplicaRouter"]


def database(**pg_status: Any) -> dict[str, Any]:
    """An entry of ``DATABASES``; its host and port are those that pg-status reports."""
    url = os.environ.get("PG_STATUS_URL", "http://127.0.0.1:8000")
    return {
        "ENGINE": "pgstatus.django",
        "NAME": "postgres",
        "USER": "postgres",
        "PASSWORD": os.environ.get("DB_PASSWORD", "postgres"),
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"connect_timeout": 2, "pg_status": {"url": url, **pg_status}},
    }


DATABASES = {
    "default": database(),
    "replica": database(role="replica", lag_ms=500),
}
