"""libpq's parameters: which variable, service or file they come from, and what is invalid."""

from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest
import trustme
from psycopg.pq import Conninfo

from pgstatus.settings.libpq import invalid
from tests.support.certificates import Certificates
from tests.support.configuration import Loader


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


def params(
    load: Loader, env: Mapping[str, str] | None = None, **variables: object
) -> dict[str, str]:
    """Of the first host."""
    return dict(load(env, **variables).targets[0].params)


@pytest.mark.parametrize(
    "parameters",
    [
        "sslmode=bogus", "hostaddr=abc", "channel_binding=x", "target_session_attrs=read-write",
        "target_session_attrs=bogus", "gssencmode=x", "require_auth=x", "keepalives=x",
        "keepalives_idle=1.5", "tcp_user_timeout=x", "connect_timeout=x", "sslcertmode=x",
        "ssl_min_protocol_version=9", "sslrootcert=system&sslmode=require", "replication=true",
        "sslnegotiation=direct", "load_balance_hosts=x", "min_protocol_version=9", "nonsense=1",
        "service=unknown", "sslrootcert=/nowhere", "sslmode=verify-full", "sslcert=/nowhere",
        "sslkey=/nowhere", "sslcrl=/nowhere", "sslcrldir=/nowhere", "port=0", "port=x",
    ],
)  # fmt: skip
def test_invalid_parameters_of_a_uri_are_problems(load: Loader, parameters: str) -> None:
    text = load.problems(hosts=f"pg1,postgresql://pg2/db?{parameters}")
    assert text.startswith("pg_status__hosts, entry 2: ")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "parameters",
    [
        "", "sslmode=require", "hostaddr=::1", "channel_binding=require", "keepalives_idle=10",
        "target_session_attrs=any", "options=-c%20geqo%3Doff", "application_name=x",
        "gssencmode=prefer", "sslmode=verify-full&sslrootcert=system", "connect_timeout=3",
        "require_auth=scram-sha-256", "sslsni=0", "load_balance_hosts=disable",
    ],
)  # fmt: skip
def test_valid_parameters_of_a_uri(load: Loader, parameters: str) -> None:
    assert load.problems(hosts=f"postgresql://pg2/db?{parameters}") == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSSLMODE", "bogus"), ("PGCHANNELBINDING", "x"), ("PGSSLROOTCERT", "/nowhere"),
        ("PGSSLKEY", "/nowhere"), ("PGPORT", "0"), ("PGSERVICE", "unknown"), ("PGSERVICE", ""),
        ("PGSSLMODE", "verify-ca"), ("PGREQUIREAUTH", "x"), ("PGPASSWORD", "\udce9"),
    ],
)  # fmt: skip
def test_invalid_variables_are_one_problem_each(load: Loader, name: str, value: str) -> None:
    text = load.problems({name: value})
    assert "PG" in text
    assert len(text.splitlines()) == 1


def test_libpq_rejects_what_is_invalid(load: Loader) -> None:
    """The parameters are those that libpq itself, asked for a connection, complains about."""
    for keyword, value in [("sslmode", "bogus"), ("require_auth", "x"), ("channel_binding", "x")]:
        problem = invalid({"host": "pg1", keyword: value})
        with pytest.raises(psycopg.OperationalError) as error:
            psycopg.connect(host="127.0.0.1", port=1, **{keyword: value})  # type: ignore[arg-type]
        assert problem is not None
        assert problem in str(error.value)


@pytest.mark.parametrize("entry", ["::1:5857", "2001:db8::7:5432"])
def test_an_ipv6_address_with_an_ambiguous_port_is_an_error(load: Loader, entry: str) -> None:
    assert "ambiguous: expected [" in load.problems(hosts=entry)


@pytest.mark.parametrize("entry", ["::1", "fd00::1:1", "2001:db8::5432", "1:2:3:4:5:6:7:5432"])
def test_an_ipv6_address_without_port(load: Loader, entry: str) -> None:
    assert load(hosts=entry).hosts[0].port == 5432


@pytest.mark.parametrize("entry", ["10.0.0.300", "a..b", "x" * 64, "postgresql://a..b/x"])
def test_a_name_that_cannot_be_resolved_is_an_error(load: Loader, entry: str) -> None:
    assert "expected host" in load.problems(hosts=entry)


def test_names_that_differ_in_letter_case_are_the_same_host(load: Loader) -> None:
    assert "listed twice" in load.problems(hosts="PG1,pg1")


def test_variables_of_libpq_apply_where_none_of_ours_is_set(load: Loader) -> None:
    env = {
        "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d", "PGPORT": "7", "PGSSLMODE": "require",
        "PGOPTIONS": "-c geqo=off",
    }  # fmt: skip
    assert params(load, env) == {
        "host": "a", "port": "7", "user": "u", "password": "p", "dbname": "d",
        "sslmode": "require", "options": "-c geqo=off",
    }  # fmt: skip
    ours = {"pg_user": "v", "pg_password": "q", "pg_database": "e", "pg_port": 8}
    found = params(load, env, **ours)
    assert [found[name] for name in ("user", "password", "dbname", "port")] == ["v", "q", "e", "8"]
    found = params(load, env, **ours, hosts="postgresql://w:r@h:9/f?sslmode=disable")
    assert found == {
        "host": "h", "port": "9", "user": "w", "password": "r", "dbname": "f",
        "sslmode": "disable", "options": "-c geqo=off",
    }  # fmt: skip


def test_every_variable_of_libpq_is_passed_or_reported(load: Loader, tmp_path: Path) -> None:
    values = {
        "PGPORT": "7", "PGHOSTADDR": "::1", "PGSSLROOTCERT": "system", "PGSSLMODE": "verify-full",
        "PGPASSFILE": str(tmp_path / "pgpass"), "PGSSLCRLDIR": str(tmp_path),
        "PGCHANNELBINDING": "require", "PGTARGETSESSIONATTRS": "read-write",
        "PGGSSENCMODE": "prefer",
        "PGLOADBALANCEHOSTS": "random", "PGSSLCERTMODE": "disable", "PGREQUIREAUTH": "password",
        "PGSSLNEGOTIATION": "postgres", "PGCONNECT_TIMEOUT": "7",
        "PGMINPROTOCOLVERSION": "3.0", "PGMAXPROTOCOLVERSION": "3.2",
        "PGSSLMINPROTOCOLVERSION": "TLSv1.3", "PGSSLMAXPROTOCOLVERSION": "TLSv1.3",
    }  # fmt: skip
    for name in ("PGSSLCERT", "PGSSLKEY", "PGSSLCRL"):
        values[name] = str(tmp_path / "file")
    (tmp_path / "file").touch()
    for option in Conninfo.get_defaults():
        name, keyword = (option.envvar or b"").decode(), option.keyword.decode()
        if name in {"", "PGSERVICE"}:
            continue
        value = values.get(name, "1")
        environ = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "system", name: value}
        settings = load(environ, hosts="/run/postgresql")  # a socket: no files of certificates
        passed = settings.targets[0].params.get(keyword) == value
        reported = any(warning.startswith(f"{name} is ignored") for warning in settings.warnings)
        assert passed != reported, name


def test_variables_that_do_not_apply_cannot_reach_libpq(load: Loader) -> None:
    found = params(load, {"PGTARGETSESSIONATTRS": "read-write", "PGCONNECT_TIMEOUT": "1"})
    assert (found["target_session_attrs"], found["connect_timeout"]) == ("any", "0")
    found = params(load, {"PGHOSTADDR": "::1"}, hosts="/run/postgresql")
    assert found["hostaddr"] == ""


def test_an_empty_variable_is_unset(load: Loader) -> None:
    """libpq itself would reject an empty PGSSLMODE."""
    assert params(load, {"PGSSLMODE": "", "PGUSER": ""})["sslmode"] == "prefer"


def test_an_env_file_replaces_variables_of_the_process(load: Loader, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("PGSSLMODE=\nPGUSER=u\n")
    found = params(load, {"PGSSLMODE": "require", "PGUSER": "v"}, env_file=file)
    assert (found["sslmode"], found["user"]) == ("prefer", "u")


def test_an_env_file_cannot_replace_the_service_of_the_process(
    load: Loader, tmp_path: Path
) -> None:
    """libpq reads the service at every login, in the environment of the process."""
    file = tmp_path / "env"
    file.write_text("PGSERVICE=other\n")
    assert "PGSERVICE" in load.problems({"PGSERVICE": "one"}, env_file=file)


def test_a_session_variable_in_the_env_file_is_a_warning(load: Loader, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("PGTZ=UTC\n")
    assert "PGTZ in the env file is ignored" in load(env_file=file).warnings[0]


def test_services(load: Loader, tmp_path: Path) -> None:
    (tmp_path / ".pg_service.conf").write_text(
        "# comment\n[one]\nhost=elsewhere\nhostaddr=::1\nuser=u\npassword=p%w\nport=7\n"
        "[two]\nuser=v\ntarget_session_attrs=read-write\n"
    )
    found = params(load, {"PGSERVICE": "one", "PGUSER": "ignored"})
    assert found == {
        "host": "a", "port": "7", "user": "u", "password": "p%w", "dbname": "postgres",
    }  # fmt: skip
    found = params(load, hosts="postgresql://pg1?service=one", pg_user="w")
    assert (found["host"], found["user"], found["port"]) == ("pg1", "u", "7")
    assert "service" not in found
    assert params(load, hosts="postgresql://?service=one")["host"] == "elsewhere"
    assert "target_session_attrs" in load.problems(hosts="postgresql://pg1?service=two")
    assert params(load, {"PGSERVICE": "two"})["target_session_attrs"] == "any"


def test_the_files_of_services(load: Loader, tmp_path: Path) -> None:
    named, directory = tmp_path / "named", tmp_path / "etc"
    directory.mkdir()
    named.write_text("[one]\nuser=u\n")
    (directory / "pg_service.conf").write_text("[one]\nuser=v\n[two]\nuser=w\n")
    env = {"PGSERVICEFILE": str(named), "PGSYSCONFDIR": str(directory)}
    assert params(load, {**env, "PGSERVICE": "one"})["user"] == "u"
    assert params(load, {**env, "PGSERVICE": "two"})["user"] == "w"
    assert f"searched: {named}, {directory}" in load.problems({**env, "PGSERVICE": "three"})
    named.write_text("[one]\nnonsense=u\n")
    assert "unknown parameter 'nonsense'" in load.problems({**env, "PGSERVICE": "one"})
    named.write_text("user\n")
    assert "expected sections" in load.problems({**env, "PGSERVICE": "one"})


def test_the_default_password_does_not_replace_a_password_file(
    load: Loader, tmp_path: Path
) -> None:
    file = tmp_path / ".pgpass"
    file.write_text("*:*:*:*:s3cret\n")
    file.chmod(0o600)
    settings = load()
    assert "password" not in settings.targets[0].params
    assert settings.warnings == ()
    assert params(load, {"PGPASSWORD": "p"})["password"] == "p"
    assert params(load, pg_password="q")["password"] == "q"


def test_a_password_file_that_libpq_ignores_is_a_warning(load: Loader, tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:s3cret\n")
    file.chmod(0o640)
    (warning,) = load({"PGPASSFILE": str(file)}).warnings
    assert "accessible by group or others" in warning
    (warning,) = load({"PGPASSFILE": str(tmp_path / "nowhere")}).warnings
    assert "no such file" in warning


def test_certificates_and_keys_of_clients(load: Loader, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    files = Certificates(tmp_path / "c", "127.0.0.1")
    certificate, key = files.client()
    key.chmod(0o600)

    def problem(**params: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in params.items())
        return load.problems(hosts=f"postgresql://pg1?sslmode=require&{query}")

    assert problem(sslcert=certificate, sslkey=key, sslrootcert=files.ca) == ""
    files.ca.write_text(f"# K\u00e4se\n{files.ca.read_text()}")
    assert problem(sslrootcert=files.ca) == ""
    assert "expected sslcert, too" in problem(sslkey=key)
    assert "no such file" in problem(sslcert=certificate)
    assert "OpenSSL" in problem(sslrootcert=key)
    assert "OpenSSL" in problem(sslcert=files.cert, sslkey=key)
    other = tmp_path / "other.key"
    other.write_bytes(trustme.CA().issue_cert("x@y").private_key_pem.bytes())
    other.chmod(0o600)
    assert "OpenSSL" in problem(sslcert=certificate, sslkey=other)
    key.chmod(0o644)
    assert "accessible by others" in problem(sslcert=certificate, sslkey=key)
    assert load.problems(hosts=f"postgresql://pg1?sslmode=disable&sslkey={key}") == ""


def test_no_password_is_shown(load: Loader, tmp_path: Path) -> None:
    text = load.problems(
        {"PGPASSWORD": "s3cret", "PGSSLMODE": "bogus"}, hosts="postgresql://u:s3cret@h?sslmode=x"
    )
    assert "s3cret" not in text
    assert "bogus" in text or "x" in text
