"""The rules under arbitrary sequences of events and checks; see `machine`.

A failure is printed as a program of rules. The sequences are the same in every run; with
``MODEL_RANDOM=1`` they are new ones, and a failure is printed with the line that reproduces it.
``MODEL_SEQUENCES`` is their number.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine

_SEQUENCES = int(os.environ.get("MODEL_SEQUENCES", "2000"))
_RANDOM = os.environ.get("MODEL_RANDOM") == "1"


def test_no_answer_breaks_a_promise() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=_SEQUENCES,
            stateful_step_count=25,
            deadline=None,
            database=None,
            print_blob=True,
            derandomize=not _RANDOM,
            suppress_health_check=list(HealthCheck),
        ),
    )
