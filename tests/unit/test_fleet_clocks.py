"""The times of a watcher on the clock of a relay: evidence never counts as younger than it is."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstatus.fleet.clocks import DRIFT, WatcherClock

ROUNDING = 1e-6


@dataclass
class Step:
    """One document: the pause before it, and what delays it, seconds."""

    pause: float = 1.0
    delay: float = 0.0
    """Of the network, in addition to the shortest."""
    frozen: float = 0.0
    """The relay stops for so long before it receives the document, and those that follow it."""
    jump: float = 0.0
    """The watcher's clock jumps before the document is made."""


SECONDS = st.floats(0, 300)
STEPS = st.lists(
    st.builds(
        Step,
        pause=st.floats(0.01, 2),
        delay=st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 5.0, 100.0]),
        frozen=st.sampled_from([0.0] * 6 + [1.0, 30.0, 500.0]),
    ),
    min_size=1,
    max_size=150,
)


class Network:
    """True times are the relay's; the watcher's clock has another origin and may drift."""

    def __init__(self, offset: float, fastest: float, drift: float = 0.0) -> None:
        self.offset = offset
        self.fastest = fastest
        self.drift = drift
        self.now = 1000.0
        """When the next document is made."""
        self.received_at = 1000.0
        self.clock = WatcherClock()

    def theirs(self, moment: float) -> float:
        return (moment - 1000.0) * (1 + self.drift) + 1000.0 + self.offset

    def send(self, step: Step, after: float | None = None) -> None:
        self.now += step.pause
        self.offset += step.jump
        arrives = self.now + self.fastest + step.delay
        self.received_at = max(arrives, self.received_at + step.frozen)
        self.clock.received(
            self.theirs(self.now), self.received_at, float("-inf") if after is None else after
        )

    def is_known(self) -> bool:
        return self.clock.is_known

    def error(self, moment: float) -> float:
        """By how much an observation of this moment appears younger than it is."""
        return self.clock.earliest(self.theirs(moment)) - moment


@given(
    offset=st.floats(-1e6, 1e6),
    fastest=st.floats(0, 0.5),
    drift=st.floats(-DRIFT / 2, DRIFT / 2),
    steps=STEPS,
)
def test_with_a_request_evidence_is_never_younger_than_the_truth(
    offset: float, fastest: float, drift: float, steps: list[Step]
) -> None:
    network = Network(offset, fastest, drift)
    asked = network.now
    for number, step in enumerate(steps):
        network.send(step, asked if number == 0 else None)
        assert network.is_known()
        # What a bound was measured with may be two windows old.
        slack = 0.01 + ROUNDING + DRIFT * (network.received_at - asked)
        assert network.error(network.now) <= slack
        assert network.error(network.now - 10) <= slack


@given(offset=st.floats(-1e6, 1e6), fastest=st.floats(0, 0.5), steps=STEPS)
def test_the_moment_lies_between_the_earliest_and_the_latest(
    offset: float, fastest: float, steps: list[Step]
) -> None:
    network = Network(offset, fastest)
    asked = network.now
    for number, step in enumerate(steps):
        network.send(step, asked if number == 0 else None)
        moment = network.theirs(network.now)
        assert network.clock.earliest(moment) <= network.now + ROUNDING
        assert network.clock.latest(moment) >= network.now - ROUNDING


@given(fastest=st.floats(0, 0.5), frozen=SECONDS, waiting=st.integers(1, 400))
def test_documents_that_waited_in_a_buffer_keep_their_age(
    fastest: float, frozen: float, waiting: int
) -> None:
    network = Network(5000, fastest)
    for _ in range(10):
        network.send(Step())
    network.send(Step(frozen=frozen))
    for _ in range(waiting):
        network.send(Step(pause=min(1.0, frozen / waiting)))
        assert network.error(network.now) <= fastest + ROUNDING


def test_a_relay_that_freezes_again_and_again() -> None:
    network = Network(5000, 0.01)
    for _ in range(10):
        network.send(Step())
    for _ in range(10):
        network.send(Step(frozen=100.0))
        assert network.error(network.now) <= 0.01 + ROUNDING


@pytest.mark.parametrize("jump", [-100.0, -3.0, 3.0, 100.0])
@pytest.mark.parametrize("asks", [True, False])
def test_a_jump_of_the_clock_makes_evidence_older_only(jump: float, asks: bool) -> None:
    network = Network(5000, 0.01)
    asked = network.now
    for number in range(100):
        network.send(Step(), asked if asks and number == 0 else None)
    network.send(Step(jump=jump))
    for _ in range(50):
        network.send(Step())
        assert network.error(network.now) <= 0.01 + ROUNDING


def test_a_jump_is_forgotten_after_two_windows() -> None:
    network = Network(5000, 0.01)
    for _ in range(100):
        network.send(Step())
    network.send(Step(jump=-100.0))
    assert network.error(network.now) < -99
    for _ in range(150):
        network.send(Step())
    assert network.error(network.now) == pytest.approx(0.01)


def test_a_jump_is_forgotten_with_the_next_request() -> None:
    network = Network(5000, 0.01)
    network.send(Step(), network.now)
    network.send(Step(jump=-100.0))
    assert network.error(network.now) < -99
    network.send(Step(pause=0.1), network.now + 0.09)
    assert -0.03 < network.error(network.now) <= ROUNDING


def test_a_stored_document_does_not_show_its_age() -> None:
    network = Network(5000, 0.01)
    network.send(Step(delay=3600))
    assert not network.is_known()


def test_documents_of_a_buffer_do_not_show_their_age() -> None:
    network = Network(5000, 0.01)
    for _ in range(60):
        network.send(Step(frozen=3600 if network.now == 1000 else 0))
        assert not network.is_known()


def test_documents_that_arrive_as_they_are_sent_show_their_age() -> None:
    network = Network(5000, 0.01)
    network.send(Step(delay=0.9))
    assert not network.is_known()
    network.send(Step())
    network.send(Step())
    assert network.is_known()
    assert network.error(network.now) == pytest.approx(0.01)
