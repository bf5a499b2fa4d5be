"""Every variable of the configuration, declared once, and how one is read.

``docs/configuration.md`` and the package's file are checked against `VARIABLES`.
"""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from environs import Env, EnvValidationError, validate

from pgstatus.core.election import SplitBrain
from pgstatus.core.selection import MAX_WAIT_MS

PREFIX = "pg_status__"
_U64 = 2**64 - 1
_DAY = 86_400
_UP_TO_A_DAY = validate.Range(min=0, min_inclusive=False, max=_DAY)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. ``kind`` names the environs parser; ``expected`` ends an error's sentence."""

    name: str
    kind: str
    default: Any
    expected: str
    check: Callable[[Any], Any] | None = None
    alias: str | None = None
    """The name that 1.0 gave it."""


def _words(*words: str) -> dict[str, Any]:
    return {"expected": f"one of {', '.join(words)}", "check": validate.OneOf(words)}


def _whole(minimum: int, maximum: int = _U64) -> dict[str, Any]:
    upper = f" up to {maximum}" if maximum != _U64 else ""
    return {
        "expected": f"a whole number from {minimum}{upper}",
        "check": validate.Range(minimum, maximum),
    }


_TEXT = "text"

VARIABLES = (
    Variable("hosts", "str", None, "host, host:port, [v6]:port or postgresql:// URIs"),
    Variable("delimiter", "str", ",", _TEXT),
    Variable("pg_user", "str", "postgres", _TEXT),
    Variable("pg_password", "str", "postgres", _TEXT),
    Variable("pg_password_file", "path", None, "the path of a file"),
    Variable("pg_database", "str", "postgres", _TEXT),
    Variable("pg_port", "str", "5432", "ports, one for all hosts or one for each", alias="port"),
    Variable("sleep_ms", "int", 5000, **_whole(1, 1000 * _DAY)),
    Variable("sleep", "float", None, "seconds, more than 0, at most a day", _UP_TO_A_DAY),
    Variable("connect_timeout", "float", 2.0, "seconds, more than 0, at most a day", _UP_TO_A_DAY),
    Variable("query_timeout_ms", "int", 5000, **_whole(1, 1000 * _DAY)),
    Variable("conn_max_age_ms", "int", 300_000, **_whole(0)),
    Variable("max_fails", "int", 3, **_whole(1)),
    Variable("sync_max_lag_ms", "int", 1000, **_whole(0)),
    Variable("sync_max_lag_bytes", "int", 1_000_000, **_whole(0)),
    Variable("hosts_dc", "str", None, _TEXT),
    Variable("hosts_geo", "str", None, _TEXT),
    Variable("current_dc", "str", None, _TEXT),
    Variable("current_dc_env", "str", None, "the name of a variable"),
    Variable("current_geo", "str", None, _TEXT),
    Variable("current_geo_env", "str", None, "the name of a variable"),
    Variable(
        "http_listen_address",
        "str",
        "0.0.0.0",  # noqa: S104
        "an IPv4 or IPv6 address, localhost, * or unix:/path",
    ),
    Variable("http_port", "int", 8000, **_whole(1, 65535)),
    Variable(
        "http_socket_mode",
        "str",
        "660",
        "three octal digits, as in 660",
        validate.Regexp(r"[0-7]{3}\Z"),
    ),
    Variable("http_token_file", "path", None, "the path of a file"),
    Variable("http_tls_cert", "path", None, "the path of a file"),
    Variable("http_tls_key", "path", None, "the path of a file"),
    Variable("http_tls_client_ca", "path", None, "the path of a file"),
    Variable("log_level", "str", "info", **_words("debug", "info", "warning", "error", "fatal")),
    Variable("log_format", "str", "text", **_words("text", "json")),
    Variable("failover_sleep_ms", "int", 100, **_whole(1, 1000 * _DAY)),
    Variable("split_brain", "str", "newest_timeline", **_words(*SplitBrain)),
    Variable("min_lsn_wait_ms", "int", 20, **_whole(0, MAX_WAIT_MS)),
    Variable("max_staleness_ms", "int", None, **_whole(0)),
    Variable("state_file", "path", None, "the path of a file"),
    Variable("on_change", "str", None, "a command and its arguments"),
    Variable("on_change_timeout_ms", "int", 30_000, **_whole(1, 1000 * _DAY)),
    Variable("env_file", "str", None, "the path of a file"),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}


def _is_unicode(text: str) -> bool:
    """Bytes of the environment that are no UTF-8 come as surrogates, which nothing can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Reader:
    """Reads variables and gathers what is wrong with them."""

    def __init__(self, problems: list[str]) -> None:
        # Not eager: environs keeps every mistake until seal().
        self._env = Env(eager=False)
        self._problems = problems
        self.warnings: list[str] = []

    def read(self, variable: Variable) -> Any:
        """The value, or the default where the variable is unset, empty or wrong."""
        name = PREFIX + variable.name
        if variable.alias is not None:
            name = self._older(name, PREFIX + variable.alias)
        elif variable.name == "sleep_ms":
            return self._sleep_ms(variable, name)
        if not os.environ.get(name):
            return variable.default
        if not _is_unicode(os.environ[name]):
            self._problems.append(f"{name}: expected text in UTF-8")
            return variable.default
        value = self._parse(variable, name)
        return variable.default if value is None else value

    def problems(self) -> list[str]:
        """One sentence for each wrong value. Reads the unknown names into ``warnings``, too."""
        try:
            self._env.seal()
        except EnvValidationError as error:
            for name in error.error_messages:
                variable = self._variable(name)
                self._problems.append(
                    f"{name}={os.environ.get(name)!r}: expected {variable.expected}"
                )
        self._unknown_names()
        return self._problems

    def _parse(self, variable: Variable, name: str) -> Any:
        parse = getattr(self._env, variable.kind)
        return parse(name, validate=variable.check) if variable.check else parse(name)

    def _variable(self, name: str) -> Variable:
        name = name.removeprefix(PREFIX)
        return BY_NAME.get(name) or next(v for v in VARIABLES if v.alias == name)

    def _older(self, name: str, alias: str) -> str:
        if os.environ.get(name) and os.environ.get(alias):
            self.warnings.append(f"{name} and {alias} are both set; {alias} is ignored")
        return name if os.environ.get(name) or not os.environ.get(alias) else alias

    def _sleep_ms(self, variable: Variable, name: str) -> Any:
        """``sleep`` (1.0) is in seconds, with fractions; everything else of it is ``sleep_ms``."""
        older = PREFIX + "sleep"
        if self._older(name, older) == older:
            seconds = self._parse(BY_NAME["sleep"], older)
            return max(1, round(seconds * 1000)) if seconds else variable.default
        return (os.environ.get(name) and self._parse(variable, name)) or variable.default

    def _unknown_names(self) -> None:
        known = [PREFIX + v.name for v in VARIABLES]
        known += [PREFIX + v.alias for v in VARIABLES if v.alias]
        for name in os.environ:
            if name.lower().startswith(PREFIX) and name not in known:
                near = difflib.get_close_matches(name.lower(), known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.warnings.append(f"{name} is not a variable of pg-status{hint}")
