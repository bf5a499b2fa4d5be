"""Any environment is loaded, with parameters that libpq can parse, or reported as invalid."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from pgstatus.errors import ConfigError
from pgstatus.settings.load import load
from pgstatus.settings.target import Target
from pgstatus.settings.variables import PREFIX, VARIABLES

NAMES = [
    *(variable.full_name for variable in VARIABLES),
    *(PREFIX + variable.older for variable in VARIABLES if variable.older),
    *(option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar),
    "PGSERVICEFILE", "PGSYSCONFDIR", "HOME", "PATH",
]  # fmt: skip
FRAGMENTS = [
    "a", "b", ",", "0", "1", "-1", "9" * 30, "nan", "inf", "1e9", "postgresql://", "u:p@", "?", "&",
    "=", "sslmode", "service", "verify-full", "system", "%zz", "%00", "[", "]", "::1", ":5432", "/",
    "/tmp", "/dev/zero", "/proc/self/mem", "unix:", "~", "*", "'", '"', "\\", "\n", "\x01", " ",
    "\udce9", "\u00e9", "\u2167", "\u202e", "x" * 400,
]  # fmt: skip
VALUES = st.lists(st.sampled_from(FRAGMENTS), max_size=5).map("".join)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=6))
@settings(max_examples=500)
def test_any_environment_is_loaded_or_reported(environ: dict[str, str]) -> None:
    problems: Sequence[str] = ()
    targets: Sequence[Target] = ()
    is_without_clusters = False
    try:
        found = load({f"{PREFIX}hosts": "pg1", **environ})
        targets = [target for one in found.clusters.values() for target in one.targets]
        # A directory of clusters may be empty.
        is_without_clusters = f"{PREFIX}clusters_dir" in environ and not found.clusters
    except ConfigError as error:
        problems = error.problems
    assert is_without_clusters or bool(targets) != bool(problems)
    assert all(len(problem) < 2000 for problem in problems)
    for target in targets:
        make_conninfo("", **target.params)
