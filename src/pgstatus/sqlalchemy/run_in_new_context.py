"""Concurrent queries: one session runs one query at a time, so each task needs its own."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import ParamSpec, TypeVar

from pgstatus.sqlalchemy.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.context import (
    current_sessions_or_none,
    init_db_session_ctx,
    reset_db_session_ctx,
)

P = ParamSpec("P")
Result = TypeVar("Result")


async def run_in_new_ctx(
    callable_func: Callable[P, Awaitable[Result]], *args: P.args, **kwargs: P.kwargs
) -> Result:
    """``await callable_func(*args, **kwargs)`` in a copy of the context, with sessions of its own.

    They are committed when it returns, rolled back when it raises, and closed. For
    ``asyncio.gather(run_in_new_ctx(load, 1), run_in_new_ctx(load, 2))``, and for work outside of a
    request. What it sets in context variables does not affect the caller.
    """

    async def run() -> Result:
        async with AsyncExitStack() as stack:
            outer = current_sessions_or_none()
            if outer is not None and outer.factories:
                # A test's transaction has one connection, so its users take turns.
                await stack.enter_async_context(outer.nested_turn)
            token = init_db_session_ctx(force=True)
            try:
                try:
                    result = await callable_func(*args, **kwargs)
                except Exception:
                    await rollback_all_sessions()
                    raise
                await commit_all_sessions()
                return result
            finally:
                await reset_db_session_ctx(token)

    return await asyncio.create_task(run())
