"""Django database backend, router and middleware that follow the cluster.

``ENGINE = "pgstatus.django"``. This module is imported before Django is set up: nothing here may
import models, settings or connections.
"""

from pgstatus.django.scope import read_from_replicas, use_master

__all__ = ["read_from_replicas", "use_master"]
