"""The rules under arbitrary sequences of events and checks; see `machine`.

A failure is printed as a program of rules, with the line that reproduces it.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine

SEQUENCES = int(os.environ.get("MODEL_SEQUENCES", "2000"))


def test_no_answer_breaks_a_promise() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=25,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
