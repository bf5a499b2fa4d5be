"""Fixtures for other programs: directories that are accessible to their accounts."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgstatus.demo.network import Network
from tests.support.follower import TEMPLATE, Follower

MakeFollower = Callable[..., Follower]


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory that every account may enter; it is removed after the test."""
    directory = Path(tempfile.mkdtemp(prefix="pg-status-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def make_follower(network: Network, directory: Path) -> Iterator[MakeFollower]:
    """``make_follower(template, pool_size=2)``: PgBouncer runs and has no databases yet."""
    with ExitStack() as undo:

        def make(template: str = TEMPLATE, **options: object) -> Follower:
            follower = Follower(directory, network.address(250), template, options)
            undo.enter_context(follower.bouncer)
            return follower

        yield make
