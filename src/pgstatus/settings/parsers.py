"""How the text of a variable becomes a value, and how an error names what was expected."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from environs import Env, validate

T_co = TypeVar("T_co", covariant=True)

_DAY = 86_400
_MAX_MS = 1000 * _DAY
_U64 = 2**64 - 1


class MappingEnv(Env):
    """environs over a given mapping. The process environment is not read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(eager=False)  # collect all errors until seal()
        self._mapping = environ

    def _get_value(self, env_key: str, default: Any) -> Any:
        # The method that environs' own FileAwareEnv overrides.
        return self._mapping.get(env_key, default)


@dataclass(frozen=True, slots=True)
class Parser(Generic[T_co]):
    """A type of value."""

    read: Callable[[MappingEnv, str], T_co | None]
    """None after an error, which environs has recorded."""
    expected: str
    """Completes the sentence "expected …"."""


def text(expected: str = "text", pattern: str = "") -> Parser[str]:
    """Text that matches ``pattern`` completely, if there is one."""
    check = validate.Regexp(rf"(?:{pattern})\Z") if pattern else None
    return Parser(lambda env, name: env.str(name, validate=check), expected)


def path(expected: str = "a readable file") -> Parser[Path]:
    return Parser(lambda env, name: env.path(name), expected)


def whole(minimum: int, maximum: int = _U64) -> Parser[int]:
    upper = f" to {maximum}" if maximum != _U64 else " or more"
    check = validate.Range(minimum, maximum)
    return Parser(
        lambda env, name: env.int(name, validate=check), f"a whole number, {minimum}{upper}"
    )


def milliseconds(minimum: int = 1) -> Parser[int]:
    return whole(minimum, _MAX_MS)


def seconds(*, zero: bool = False) -> Parser[float]:
    check = validate.Range(min=0, min_inclusive=zero, max=_DAY)
    lowest = "0 or more" if zero else "more than 0"
    return Parser(
        lambda env, name: env.float(name, validate=check), f"seconds, {lowest}, at most {_DAY}"
    )


def one_of(*words: str, **synonyms: str) -> Parser[str]:
    """One of these words in any letter case; ``synonyms`` map further words to them."""
    check = validate.OneOf([*words, *synonyms])

    def read(env: MappingEnv, name: str) -> str | None:
        word = env.str(name, validate=lambda value: check(value.lower()))
        return None if word is None else synonyms.get(word.lower(), word.lower())

    return Parser(read, f"one of {', '.join(words)}")


def is_unicode(value: str) -> bool:
    """Bytes of an environment that are not UTF-8 arrive as surrogates."""
    return re.search("[\ud800-\udfff]", value) is None
