"""Run the sequences of `machine` in this process: ``python -m tests.model``.

With ``MODEL_RANDOM=1`` they are new ones, and a failure is printed with the line that reproduces
it. ``MODEL_SEQUENCES`` is their number.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine

run_state_machine_as_test(
    Machine,
    settings=settings(
        max_examples=int(os.environ.get("MODEL_SEQUENCES", "2000")),
        stateful_step_count=25,
        deadline=None,
        database=None,
        print_blob=True,
        derandomize=os.environ.get("MODEL_RANDOM") != "1",
        suppress_health_check=list(HealthCheck),
    ),
)
