"""Work beside a request: one session is used by one thread at a time, so each needs its own."""

from collections.abc import Callable
from contextlib import ExitStack
from contextvars import copy_context
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

    They are committed when it returns, rolled back when it raises, and closed. For threads:
    ``Thread(target=run_in_new_ctx, args=(load, 1))``, and for work outside of a request. A thread
    has the bookmarks of the request and ``use_master`` only if it is started in a copy of its
    context: ``executor.submit(copy_context().run, run_in_new_ctx, load, 1)``. What it sets in
    context variables does not affect the caller.
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
