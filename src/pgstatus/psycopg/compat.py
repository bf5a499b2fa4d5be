"""What differs between tasks and threads, what Python 3.10 lacks, and a default of psycopg."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from psycopg.conninfo import conninfo_to_dict

# A dependency of psycopg where it is needed.
if sys.version_info >= (3, 13):
    from typing import Self, TypeVar
else:
    from typing_extensions import Self, TypeVar

__all__ = ["Self", "TypeVar", "asleep", "default_timeout", "sleep"]

asleep = asyncio.sleep
sleep = time.sleep

# In seconds. That of psycopg is 130.
CONNECT_TIMEOUT = 5


def default_timeout(conninfo: str, kwargs: Mapping[str, Any]) -> dict[str, int]:
    """``connect_timeout``, if the application sets none.

    Callers wait in the queue of a pool while it connects. Those of a host that does not respond
    would wait for longer than it takes to find another host.
    """
    name = "connect_timeout"
    is_set = name in kwargs or "PGCONNECT_TIMEOUT" in os.environ
    return {} if is_set or name in conninfo_to_dict(conninfo) else {name: CONNECT_TIMEOUT}
