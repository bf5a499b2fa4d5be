"""The result of a check as a part of the state, whatever happens: a host can only harm itself."""

import logging
from datetime import datetime

from pgstatus.core.snapshot import Failure, Observation
from pgstatus.core.state import Look, Rules, State
from pgstatus.core.tracker import fold
from pgstatus.monitor.prober import failure_of

log = logging.getLogger(__name__)


def evaluate(
    state: State,
    index: int,
    result: Observation | Failure,
    checked_at: datetime,
    rules: Rules,
    look: Look,
) -> State:
    """The state after one more result; a response that causes an exception is a failed check."""
    try:
        return fold(state, index, result, checked_at, rules, look)
    except Exception as error:
        if isinstance(result, Failure):
            raise
        if state.records[index].failure is None:
            log.exception("%s: cannot evaluate the result of a check", state.hosts[index])
        return fold(state, index, failure_of(error, result.started), checked_at, rules, look)
