"""What differs between tasks and threads, and what Python 3.10 lacks."""

import asyncio
import sys
import time

# A dependency of psycopg where it is needed.
if sys.version_info >= (3, 13):
    from typing import Self, TypeVar
else:
    from typing_extensions import Self, TypeVar

__all__ = ["Self", "TypeVar", "asleep", "sleep"]

asleep = asyncio.sleep
sleep = time.sleep
