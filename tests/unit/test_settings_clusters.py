"""Which clusters a configuration defines, and which variables apply to each of them."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pgstatus.errors import ConfigError
from pgstatus.settings.load import Configuration, load, require_clusters
from pgstatus.settings.variables import PREFIX


def configured(variables: Mapping[str, object], **more: str) -> Configuration:
    return load({**{PREFIX + name: str(value) for name, value in variables.items()}, **more})


def problems(variables: Mapping[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as found:
        configured(variables)
    return list(found.value.problems)


def test_without_names_there_is_one_cluster() -> None:
    assert list(configured({"hosts": "a"}).clusters) == [""]


def test_a_variable_of_the_cluster_takes_precedence() -> None:
    found = configured({
        "clusters": "orders,my-shop.eu",
        "orders__hosts": "a,b",
        "my_shop_eu__hosts": "c:6000",
        "my_shop_eu__sleep": 0.5,
        "sleep_ms": 700,
        "pg_port": 5433,
    })  # fmt: skip
    orders, shop = found.clusters.values()
    assert list(found.clusters) == ["orders", "my-shop.eu"] == [orders.name, shop.name]
    assert [str(host) for host in orders.hosts] == ["a:5433", "b:5433"]
    assert [str(host) for host in shop.hosts] == ["c:6000"]
    assert orders.rules.sleep == 0.7
    assert orders.cluster_name == "orders"
    assert found.warnings == (
        (
            "cluster my-shop.eu: pg_status__my_shop_eu__sleep is ignored because "
            "pg_status__sleep_ms "
            "is set"
        ),
    )


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a-", "a__b", "\u00e9", "..", "x" * 64])
def test_an_invalid_name(name: str) -> None:
    found = problems({"clusters": f"orders,{name},users", "hosts": "a"})
    assert len(found) == 1
    assert "expected a name of at most 63 letters" in found[0]


def test_names_that_cannot_be_distinguished() -> None:
    assert problems({"clusters": "a-b,a_b", "hosts": "a"}) == [
        "pg_status__clusters: the variables of a-b and a_b have the same names"
    ]
    assert problems({"clusters": "a,a", "hosts": "a"}) == ["the cluster a is defined twice"]


def test_an_error_names_the_variable_that_has_to_be_changed() -> None:
    found = problems(
        {"clusters": "orders,users", "orders__hosts": "a,,b", "sleep_ms": "x", "users__fallback": 1}
    )
    assert found == [
        (
            "cluster orders: pg_status__orders__hosts, entry 2 of 3: empty; expected host, "
            "host:port, "
            "[v6]:port or a postgresql:// URI"
        ),
        "cluster orders: pg_status__sleep_ms='x': expected a whole number, 1 to 86400000",
        (
            "cluster users: pg_status__users__hosts is not set; expected the PostgreSQL hosts, for "
            "example pg_status__users__hosts=pg1,pg2,pg3"
        ),
        "cluster users: pg_status__sleep_ms='x': expected a whole number, 1 to 86400000",
        "cluster users: pg_status__users__fallback='1': expected one of master, stale, none",
    ]


def test_a_variable_of_the_process_cannot_be_set_for_one_cluster() -> None:
    assert problems({"clusters": "orders", "orders__hosts": "a", "orders__http_port": 1}) == [
        (
            "cluster orders: pg_status__orders__http_port: it applies to the whole process and "
            "cannot "
            "be set for one cluster"
        )
    ]


def test_a_variable_of_a_cluster_that_is_not_defined() -> None:
    assert configured({"hosts": "a", "orders__hosts": "b"}).warnings == (
        (
            "pg_status__orders__hosts is not a variable of pg-status; no cluster of this name is "
            "in "
            "pg_status__clusters"
        ),
    )


def test_an_unknown_variable_of_a_cluster() -> None:
    found = configured({"clusters": "orders", "orders__hosts": "a", "orders__max_fail": 1})
    assert found.warnings == (
        (
            "cluster orders: pg_status__orders__max_fail is not a variable of pg-status; did you "
            "mean "
            "pg_status__orders__max_fails?"
        ),
    )


def test_state_files(tmp_path: Path) -> None:
    found = configured({
        "clusters": "orders,users",
        "hosts": "a",
        "state_file": tmp_path / "state.json",
        "users__state_file": tmp_path / "old.json",
    })  # fmt: skip
    assert [settings.state_file for settings in found.clusters.values()] == [
        tmp_path / "orders.json", tmp_path / "old.json",
    ]  # fmt: skip
    assert problems({
        "clusters": "a,b", "hosts": "x",
        "a__state_file": tmp_path / "one", "b__state_file": tmp_path / "one",
    }) == [
        f"cluster b: pg_status__state_file: {tmp_path}/one is the file of cluster a",
    ]  # fmt: skip


def test_sessions_name_the_cluster() -> None:
    found = configured({"clusters": "orders", "hosts": "a"})
    assert found.clusters["orders"].targets[0].application_name.endswith("/orders")


class TestFiles:
    """``clusters_dir``."""

    def test_a_file_is_a_cluster(self, tmp_path: Path) -> None:
        (tmp_path / "users.env").write_text("pg_status__hosts=b\nPGSSLMODE=require\n")
        (tmp_path / "orders.env").write_text("pg_status__hosts='a, c'\n")
        (tmp_path / ".#orders.env").write_text("?")
        (tmp_path / "orders.env.dpkg-old").write_text("?")
        found = configured({"clusters_dir": tmp_path, "clusters": "z", "hosts": "y"})
        assert list(found.clusters) == ["z", "orders", "users"]
        assert found.clusters["users"].targets[0].params["sslmode"] == "require"
        assert "sslmode" not in found.clusters["orders"].targets[0].params
        assert found.warnings == ()

    def test_an_invalid_file_affects_no_other(self, tmp_path: Path) -> None:
        (tmp_path / "users.env").write_text("pg_status__hosts=b\nnot a variable\n")
        (tmp_path / "orders.env").write_text("pg_status__hosts=a\n")
        (tmp_path / "a b.env").write_text("pg_status__hosts=a\n")
        (tmp_path / "pipe.env").symlink_to("/dev/zero")
        found = configured({"clusters_dir": tmp_path})
        assert list(found.clusters) == ["orders"]
        assert {name: len(why) for name, why in found.rejected.items()} == {
            "a b": 1, "pipe": 1, "users": 1,
        }  # fmt: skip
        assert f"{tmp_path}/users.env, line 2: expected NAME=value" in found.rejected["users"][0]

    def test_without_a_valid_file_there_is_no_cluster(self, tmp_path: Path) -> None:
        (tmp_path / "users.env").write_text("pg_status__hosts=\n")
        found = configured({"clusters_dir": tmp_path})
        with pytest.raises(ConfigError) as error:
            require_clusters(found)
        [problem] = error.value.problems
        assert problem.startswith("cluster users: pg_status__hosts is not set")

    def test_names_of_files_that_are_no_names(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("pg_status__hosts=a\n")  # a hidden file
        (tmp_path / os.fsdecode(b"\xff.env")).write_text("pg_status__hosts=a\n")
        (tmp_path / "orders.env").write_text("pg_status__hosts=a\n")
        found = configured({"clusters_dir": tmp_path})
        assert list(found.clusters) == ["orders"]
        [(name, [problem])] = found.rejected.items()
        assert name == "\\udcff"
        assert problem.encode().isascii()

    def test_a_conflict_affects_the_later_cluster_only(self, tmp_path: Path) -> None:
        state = tmp_path / "state"
        for name in ("orders", "users"):
            (tmp_path / f"{name}.env").write_text(f"pg_status__state_file={state}\n")
        (tmp_path / "link").symlink_to(state)
        (tmp_path / "link.env").write_text(f"pg_status__state_file={tmp_path}/link\n")
        (tmp_path / "z.env").write_text("pg_status__hosts=b\n")
        found = configured({"clusters_dir": tmp_path, "clusters": "z", "hosts": "a"})
        assert list(found.clusters) == ["z", "link"]
        assert str(found.clusters["z"].hosts[0]) == "a:5432"
        assert [problem for problems in found.rejected.values() for problem in problems] == [
            (
                f"cluster z: {tmp_path}/z.env: pg_status__clusters defines a cluster of the same "
                "name"
            ),
            f"cluster orders: pg_status__state_file: {state} is the file of cluster link",
            f"cluster users: pg_status__state_file: {state} is the file of cluster link",
        ]

    def test_an_empty_directory_is_a_warning(self, tmp_path: Path) -> None:
        found = configured({"clusters_dir": tmp_path})
        assert found.clusters == {}
        assert found.warnings == (f"no cluster is defined: {tmp_path} contains no file NAME.env",)

    def test_a_directory_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as error:
            configured({"clusters_dir": tmp_path / "x"})
        assert error.value.warnings == ()
        assert problems({"clusters_dir": tmp_path / "x"}) == [
            (
                f"pg_status__clusters_dir: expected a directory ({tmp_path}/x: No such file or "
                "directory)"
            )
        ]

    def test_a_readable_password(self, tmp_path: Path) -> None:
        file = tmp_path / "users.env"
        file.write_text("pg_status__hosts=a\npg_status__pg_password=secret\n")
        file.chmod(0o644)
        [warning] = configured({"clusters_dir": tmp_path}).warnings
        assert warning.startswith(f"cluster users: pg_status__clusters_dir: {file} contains a")
