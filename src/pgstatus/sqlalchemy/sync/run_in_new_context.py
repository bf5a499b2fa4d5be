"""Work beside a request: one session is used by one thread at a time, so each needs its own."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from pgstatus.sqlalchemy.sync.auto_commit import commit_all_sessions, rollback_all_sessions
from pgstatus.sqlalchemy.sync.context import (
    current_sessions_or_none,
    init_db_session_ctx,
    reset_db_session_ctx,
)

P = ParamSpec("P")
Result = TypeVar("Result")


def run_in_new_ctx(callable_func: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """``callable_func(*args, **kwargs)`` in a copy of the context, with sessions of its own.

    They are committed when it returns, rolled back when it raises, and closed. For work outside of
    a request, such as ``Thread(target=run_in_new_ctx, args=(work, 1))``. What it sets in context
    variables does not affect the caller.
    """

    def run() -> Result:
        with ExitStack() as stack:
            outer = current_sessions_or_none()
            if outer is not None and outer.factories:
                # A test's transaction has one connection, so its users take turns.
                stack.enter_context(outer.nested_turn)
            token = init_db_session_ctx(force=True)
            try:
                try:
                    result = callable_func(*args, **kwargs)
                except Exception:
                    rollback_all_sessions()
                    raise
                commit_all_sessions()
                return result
            finally:
                reset_db_session_ctx(token)

    return copy_context().run(run)


def submit_in_new_ctx(
    executor: Executor, callable_func: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
) -> "Future[Result]":
    """``run_in_new_ctx`` in a thread of ``executor``, on behalf of the request that runs here.

    A thread has no context of its own. So it gets a copy of this one: its reads satisfy the
    bookmarks of the request and follow ``use_master``, and its writes are noted.
    """
    work = partial(run_in_new_ctx, callable_func, *args, **kwargs)
    return executor.submit(copy_context().run, work)
