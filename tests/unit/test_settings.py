"""The configuration: variables of 1.0 and 2.2, and the reports of invalid values."""

import os
import re
from pathlib import Path

import pytest

from pgstatus.errors import ConfigError
from pgstatus.settings.process import needs_restart
from pgstatus.settings.variables import PREFIX, VARIABLES
from tests.support.configuration import Loader


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def test_defaults(load: Loader) -> None:
    settings = load()
    assert [str(host) for host in settings.hosts] == ["a:5432", "b:5432", "c:5432"]
    target = settings.targets[0]
    assert target.params == {
        "host": "a", "port": "5432", "user": "postgres", "password": "postgres",
        "dbname": "postgres",
    }  # fmt: skip
    assert (target.connect_timeout, target.query_timeout, target.max_age) == (2, 1, 15)
    rules = settings.rules
    assert (rules.sleep, rules.max_fails, rules.max_staleness) == (1, 3, 6)
    assert (settings.thresholds.lag_ms, settings.thresholds.lag_bytes) == (1000, 1_000_000)
    assert (settings.listen_address, settings.listen_port) == ("0.0.0.0", 8000)
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("hosts", "ports", "expected"),
    [
        ("a", "7000", ["a:7000"]),
        ("a,b:1,c", "7000", ["a:7000", "b:1", "c:7000"]),
        ("a,b,c", "1,2,3", ["a:1", "b:2", "c:3"]),
        ("a,b,c", "1,2", ["a:1", "b:2", "c:2"]),
        ("[::1]:77,::2,10.0.0.1", "5", ["[::1]:77", "[::2]:5", "10.0.0.1:5"]),
        ("postgresql://u@h:9/d, postgres://i", "5", ["h:9", "i:5"]),
        (" a , b ", "5", ["a:5", "b:5"]),
        ("/run/postgresql", "5", ["/run/postgresql:5"]),
        ("a:1,a:2", "5", ["a:1", "a:2"]),
    ],
)
def test_hosts_and_ports(load: Loader, hosts: str, ports: str, expected: list[str]) -> None:
    settings = load(hosts=hosts, pg_port=ports)
    assert [str(host) for host in settings.hosts] == expected


def test_a_uri_wins_over_the_common_variables(load: Loader) -> None:
    settings = load(hosts="a,postgresql://me:p%40ss@b/own?sslmode=require", pg_user="common")
    assert settings.targets[0].params["user"] == "common"
    assert settings.targets[1].params == {
        "host": "b", "port": "5432", "user": "me", "password": "p@ss", "dbname": "own",
        "sslmode": "require",
    }  # fmt: skip


def test_names_of_1_0_are_accepted(load: Loader) -> None:
    settings = load(hosts="a;b", delimiter=";", port="1;2", sleep="0.25")
    assert [host.port for host in settings.hosts] == [1, 2]
    assert settings.rules.sleep == 0.25


def test_a_newer_name_wins_with_a_warning(load: Loader) -> None:
    settings = load(sleep_ms=700, sleep=9, pg_port=1, port=2)
    assert settings.rules.sleep == 0.7
    assert settings.hosts[0].port == 1
    assert sorted(settings.warnings) == [
        "pg_status__port is ignored because pg_status__pg_port is set",
        "pg_status__sleep is ignored because pg_status__sleep_ms is set",
    ]


def test_an_empty_value_is_unset(load: Loader) -> None:
    assert load(sleep_ms="", max_fails="", sleep="").rules.sleep == 1


def test_staleness_depends_on_the_schedule_unless_set(load: Loader) -> None:
    assert load(sleep_ms=1000, query_timeout_ms=500).rules.max_staleness == 4.5
    assert load(max_staleness_ms=0).rules.max_staleness == 0


def test_staleness_leaves_time_for_max_fails_unless_set(load: Loader) -> None:
    assert load(max_fails=10).rules.max_staleness == 20


def test_a_staleness_shorter_than_a_round_is_refused(load: Loader) -> None:
    assert load(max_staleness_ms=2000).rules.max_staleness == 2
    assert "sleep_ms + query_timeout_ms = 2000" in load.problems(max_staleness_ms=1999)


def test_pgpassfile_is_left_to_libpq(load: Loader) -> None:
    assert "password" not in load({"PGPASSFILE": "/x"}).targets[0].params
    assert load({"PGPASSFILE": "/x"}, pg_password="p").targets[0].params["password"] == "p"


def test_a_password_file_does_not_replace_the_password_of_a_uri(load: Loader) -> None:
    settings = load(hosts="a,postgresql://u:p@b", pg_password_file="/run/secret")
    assert [t.password_file for t in settings.targets] == [Path("/run/secret"), None]


def test_dimensions(load: Loader) -> None:
    settings = load(
        {"DC": "2"}, hosts_dc="1,2,3", current_dc_env="DC", hosts_geo="e,e,u", current_geo="e"
    )
    assert (settings.place.dc, settings.place.geo) == ("2", "e")
    assert [(h.dc, h.geo) for h in settings.hosts] == [("1", "e"), ("2", "e"), ("3", "u")]


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        (
            {"hosts_dc": "1,2,3"},
            "pg_status__hosts_dc does not affect the selection: pg_status__current_dc is not set",
        ),
        ({"current_dc": "1"}, "pg_status__current_dc is ignored: pg_status__hosts_dc is not set"),
        (
            {"current_dc": "1", "hosts_dc": "1,2"},
            "pg_status__hosts_dc is ignored: 2 values for 3 hosts",
        ),
        (
            {"current_geo_env": "NOPE", "hosts_geo": "1,2,3"},
            "pg_status__hosts_geo does not affect the selection: NOPE is not set",
        ),
        ({"current_geo_env": "NOPE"}, "pg_status__current_geo_env is ignored: NOPE is not set"),
        (
            {"current_dc_env": "pg_status__current_dc_env", "hosts_dc": "1,2,3"},
            "pg_status__current_dc_env contains its own name",
        ),
    ],
)
def test_an_incomplete_dimension_is_off_with_a_warning(
    load: Loader, variables: dict[str, str], warning: str
) -> None:
    settings = load(**variables)
    assert (settings.place.dc, settings.place.geo) == (None, None)
    assert warning in settings.warnings[0]


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(load: Loader) -> None:
    assert load(max_fail=3).warnings == (
        "pg_status__max_fail is not a variable of pg-status; did you mean pg_status__max_fails?",
    )


def test_a_suggestion_is_similar_to_the_unknown_name(load: Loader) -> None:
    assert load(lag=3).warnings == ("pg_status__lag is not a variable of pg-status",)


@pytest.mark.parametrize(
    ("written", "read"),
    [("WARN", "warning"), ("warn", "warning"), ("Info", "info"), ("FATAL", "fatal")],
)
def test_log_levels(load: Loader, written: str, read: str) -> None:
    assert load(log_level=written).log_level == read


def test_zeros_of_2_2(load: Loader) -> None:
    settings = load(max_fails=0, connect_timeout=0, query_timeout_ms=700)
    assert settings.rules.max_fails == 1
    assert settings.targets[0].connect_timeout == settings.targets[0].query_timeout == 0.7


def test_a_configured_time_for_logins_is_not_cut_off_by_a_default(load: Loader) -> None:
    assert load(connect_timeout=4).targets[0].query_timeout == 4
    assert load(connect_timeout=0.5).targets[0].query_timeout == 1
    assert load(connect_timeout=4, query_timeout_ms=500).targets[0].query_timeout == 0.5


def test_fallback(load: Loader) -> None:
    assert (load().thresholds.fallback, load().fallback_per_s) == ("master", None)
    settings = load(fallback="STALE", fallback_per_s=5)
    assert (settings.thresholds.fallback, settings.fallback_per_s) == ("stale", 5)
    assert "one of master, stale, none" in load.problems(fallback="slave")


def test_dimensions_are_shown_without_a_current_value(load: Loader) -> None:
    settings = load(hosts_dc="x,y,", hosts_geo="e,,u")
    assert [(host.dc, host.geo) for host in settings.hosts] == [
        ("x", "e"), ("y", None), (None, "u"),
    ]  # fmt: skip
    assert (settings.place.dc, settings.place.geo) == (None, None)


def test_a_variable_that_needs_a_restart(load: Loader) -> None:
    before = load().process
    after = load(http_port=1, log_format="json", log_level="debug").process
    assert needs_restart(before, after) == ("pg_status__http_port", "pg_status__log_format")
    declared = {variable.name for variable in VARIABLES if variable.restart}
    assert declared == {"http_listen_address", "http_port", "http_socket_mode", "log_format"}


def test_the_environment_of_the_command_has_no_variables_of_pg_status(load: Loader) -> None:
    command = load({"PGSSLMODE": "require", "X": "y"}, on_change="true").on_change
    assert command is not None
    assert command.environment.keys() == {"HOME", "PATH", "PGSSLMODE", "X"}


def test_the_command_is_searched_in_the_path_of_the_configuration(
    load: Loader, tmp_path: Path
) -> None:
    program = tmp_path / "notify"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "no such program" in load.problems(on_change="notify --now")
    assert load({"PATH": str(tmp_path)}, on_change="notify --now").on_change is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sleep_ms", "0"), ("sleep_ms", "fast"), ("sleep_ms", "9" * 5000), ("sleep", "1e999"),
        ("sleep", "-1"), ("sleep", "nan"),
        ("connect_timeout", "-1"), ("query_timeout_ms", "1.5"), ("max_fails", "-1"),
        ("sync_max_lag_ms", "-1"), ("sync_max_lag_bytes", str(2**64)), ("http_port", "65536"),
        ("http_listen_address", "nowhere.example"), ("log_level", "loud"), ("log_format", "xml"),
        ("split_brain", "random"), ("pg_port", "5432,x"), ("pg_port", "1,2,3,4"),
        ("hosts", "a,,b:x"), ("hosts", "a,a"), ("hosts", "a b"), ("hosts", "[x]:1"),
        ("hosts", "postgresql://a,b/x"), ("hosts", "postgresql:///x"), ("hosts", "a:0"),
        ("hosts", "a;b"), ("hosts", "a" * 50_000), ("pg_port", "1" * 50_000),
        ("hosts", '"a"'), ("pg_port", "5432,,5433"),
        ("http_listen_address", "[[::1"), ("http_listen_address", "[127.0.0.1]"),
        ("state_file", "/tmp"), ("state_file", "/dev/null"), ("env_file", "/nowhere"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_reported_with_what_was_expected(
    load: Loader, name: str, value: str
) -> None:
    text = load.problems(**{name: value})
    assert PREFIX + name in text
    assert re.search("expected|twice", text)
    assert len(text) < 500


def test_an_empty_item_of_a_dimension_is_a_host_without_one(load: Loader) -> None:
    settings = load(hosts_dc="x,,y", current_dc="x")
    assert [host.dc for host in settings.hosts] == ["x", None, "y"]


def test_a_list_that_is_not_set_has_no_items(load: Loader) -> None:
    assert load(hosts="a").warnings == ()


@pytest.mark.parametrize(
    ("hosts", "ports", "expected"),
    [
        ("a,b", "5433,", [5433, 5433]), ("a,b,c", "1,2,", [1, 2, 2]), ("a,b", "1,2,", [1, 2]),
    ],
)  # fmt: skip
def test_empty_items_of_ports(load: Loader, hosts: str, ports: str, expected: list[int]) -> None:
    assert [host.port for host in load(hosts=hosts, pg_port=ports).hosts] == expected


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ("a,,b", "pg_status__hosts, entry 2 of 3: empty"),
        (",a", "pg_status__hosts, entry 1 of 2: empty"),
        ("a, ", "pg_status__hosts, entry 2 of 2: empty"),
    ],
)
def test_an_empty_item_of_hosts_is_an_error_that_names_its_place(
    load: Loader, hosts: str, text: str
) -> None:
    assert text in load.problems(hosts=hosts)


def test_warnings_are_reported_with_problems(load: Loader) -> None:
    """An unknown name is often the reason for a missing value."""
    with pytest.raises(ConfigError) as error:
        load(hosts="", host="a,b,c")
    assert len(error.value.problems) == 1
    (warning,) = error.value.warnings
    assert "did you mean pg_status__hosts?" in warning


def test_an_unreadable_env_file_is_the_only_problem(load: Loader) -> None:
    assert len(load.problems(hosts="", env_file="/nowhere").splitlines()) == 1


def test_all_invalid_values_are_reported_together(load: Loader) -> None:
    text = load.problems(hosts="", sleep_ms="x", http_port="y", log_level="z")
    assert len(text.splitlines()) == 4
    assert "pg_status__hosts is not set" in text


def test_secrets_are_masked(load: Loader) -> None:
    text = load.problems(hosts="postgresql://u:s3cret@h:x/d,postgresql://u:s3cret@h/%zz")
    assert "s3cret" not in text
    assert "s3cret" not in repr(load(hosts="postgresql://u:s3cret@h", pg_password="s3cret"))


@pytest.mark.parametrize(
    "hosts",
    [
        "host=pg1 password=s3cret",
        "u:s3cret@pg1",
        "POSTGRESQL://u:s3cret@pg1/db",
        "postgresql://u:top,s3cret@pg1/db",
        "pg1?password=s3cret",
    ],
)
def test_no_part_of_a_password_is_shown(load: Loader, hosts: str) -> None:
    text = load.problems(hosts=hosts)
    assert "s3cret" not in text
    assert "top" not in text
    assert "pg_status__hosts, entry 1: expected" in text or "libpq cannot" in text


def test_bytes_that_are_not_utf_8(load: Loader) -> None:
    text = load.problems(pg_password="s3cr\udce9t")
    assert text == "pg_status__pg_password: expected text in UTF-8"


def test_a_uri_with_a_passfile_gets_no_password(load: Loader) -> None:
    assert "password" not in load(hosts="postgresql://u@b?passfile=/x").targets[0].params


def test_a_file_of_variables(load: Loader, tmp_path: Path) -> None:
    file = tmp_path / "pg-status.env"
    file.write_text("# comment\npg_status__hosts=x,y\npg_status__sleep_ms='250'\n")
    settings = load(env_file=file)
    assert [host.name for host in settings.hosts] == ["x", "y"]
    assert settings.rules.sleep == 0.25


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("p#w", "p#w"), ("p w #c", "p w"), ("'p #w'", "p #w"), ('"p\\n\\"w"', 'p\n"w'),
        ("$HOME", "$HOME"), ("'a\\nb'", "a\\nb"),
    ],
)  # fmt: skip
def test_how_a_value_in_the_file_is_read(
    load: Loader, tmp_path: Path, written: str, read: str
) -> None:
    file = tmp_path / "pg-status.env"
    file.write_text(f"pg_status__pg_password={written}\n")
    assert load(env_file=file).targets[0].params["password"] == read


def test_an_invalid_line_of_the_file_is_reported_but_not_shown(
    load: Loader, tmp_path: Path
) -> None:
    file = tmp_path / "pg-status.env"
    file.write_text("pg_status__max_fails=5\ns3cret\npg_status__pg_password='s3cret\n")
    text = load.problems(env_file=file)
    assert f"{file}, line 2: expected NAME=value" in text
    assert f"{file}, line 3: expected NAME=value" in text
    assert "s3cret" not in text


def test_the_process_environment_is_neither_read_nor_changed(
    load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pg-status.env"
    file.write_text("PGSSLMODE=require\npg_status__max_fails=5\n")
    monkeypatch.setenv(f"{PREFIX}max_fails", "9")
    monkeypatch.setenv(f"{PREFIX}sleep_ms", "9000")
    monkeypatch.setenv("PGUSER", "other")
    before = dict(os.environ)
    settings = load(env_file=file)
    assert (settings.rules.max_fails, settings.rules.sleep) == (5, 1)
    assert settings.targets[0].params["user"] == "postgres"
    assert settings.targets[0].params["sslmode"] == "require"
    assert dict(os.environ) == before


def test_a_variable_removed_from_the_file_has_its_default_again(
    load: Loader, tmp_path: Path
) -> None:
    file = tmp_path / "pg-status.env"
    file.write_text("PGSSLMODE=require\npg_status__max_fails=5\n")
    assert load(env_file=file).rules.max_fails == 5
    file.write_text("")
    settings = load(env_file=file)
    assert settings.rules.max_fails == 3
    assert "sslmode" not in settings.targets[0].params
