"""Queries side by side: one session runs one query at a time, so each task brings its own."""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from pgstatus.sqlalchemy.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.context import init_db_session_ctx, reset_db_session_ctx

P = ParamSpec("P")
Result = TypeVar("Result")


async def run_in_new_ctx(
    callable_func: Callable[P, Awaitable[Result]], *args: P.args, **kwargs: P.kwargs
) -> Result:
    """``await callable_func(*args, **kwargs)`` in a context, and so with sessions, of its own.

    They are committed when it returns, rolled back when it raises, and closed. For
    ``asyncio.gather(run_in_new_ctx(load, 1), run_in_new_ctx(load, 2))``.
    """
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
