"""The file of variables that ``pg_status__env_file`` names."""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from pgstatus.errors import ConfigError
from pgstatus.settings.files import read_text

_MAX_SIZE = 64 * 1024
# With the name of a cluster in it, or without.
_PASSWORD = re.compile(r"PGPASSWORD|pg_status__(.+__)?pg_password")
_URLS = re.compile(r"pg_status__(.+__)?(hosts|nats)")
# In a URL of NATS, a user without a password is a token.
_IN_URLS = {
    "hosts": re.compile(r"://[^/,]*:[^/,]*@|password="),
    "nats": re.compile(r"://[^/,]*@"),
}


def read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    """``(variables, problems)``. ConfigError if the file cannot be read at all."""
    try:
        text = read_text(path, _MAX_SIZE)
    except (OSError, ValueError) as error:
        raise ConfigError([f"pg_status__env_file: expected a readable file ({error})"]) from None
    variables, problems = {}, []
    # Not Env.read_env(), which ignores lines that it cannot parse.
    for line in parse_stream(StringIO(text)):
        if line.key is not None and line.value is not None:
            variables[line.key] = line.value
        elif line.error or line.key is not None:
            # The line itself is not shown: it may contain a password.
            problems.append(f"{path}, line {line.original.line}: expected NAME=value")
    return variables, problems


def has_password(variables: Mapping[str, str]) -> bool:
    """The variables contain a password, as far as can be seen without parsing them."""
    for name, value in variables.items():
        if value and _PASSWORD.fullmatch(name):
            return True
        if (urls := _URLS.fullmatch(name)) and _IN_URLS[urls[2]].search(value):
            return True
    return False
