"""The sources of the programs that the matrix needs."""

import sys

import pytest

from tests.matrix.__main__ import postgres
from tests.matrix.pythons import python


def test_an_interpreter_of_this_machine_takes_precedence() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert str(python(version)) == sys.executable


def test_a_version_without_a_source_is_an_error_that_names_what_to_install() -> None:
    with pytest.raises(LookupError, match=r"no Python 3\.99 .* install it as python3\.99"):
        python("3.99")
    with pytest.raises(
        LookupError, match=r"no PostgreSQL 99 .* install it in /usr/lib/postgresql/99"
    ):
        postgres("99")
