"""Fields of a JSON object from elsewhere: each is of the expected type and range, or an error."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite
from typing import Any, TypeVar

T = TypeVar("T")


class FieldsError(ValueError):
    """A field is not as expected; the message names it."""


class Fields:
    """The fields of one object. A missing field and ``null`` are None."""

    __slots__ = ("_content",)

    def __init__(self, content: Any, name: str = "document") -> None:
        if not isinstance(content, dict):
            raise FieldsError(f"{name}: expected an object")
        self._content: Mapping[str, Any] = content

    @classmethod
    def of_row(cls, row: Any, names: Sequence[str], what: str) -> "Fields":
        """An array whose items have these names; further items are ignored."""
        if not isinstance(row, list):
            raise FieldsError(f"{what}: expected an array")
        return cls(dict(zip(names, row, strict=False)), what)

    def required(self, value: T | None, name: str) -> T:
        if value is None:
            raise FieldsError(f"{name}: missing")
        return value

    def text(self, name: str, longest: int) -> str | None:
        value = self._content.get(name)
        return None if value is None else _text(value, name, longest)

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise FieldsError(f"{name}: expected an integer from {lowest} to {highest}")
        return value

    def number(self, name: str, lowest: float = -inf, highest: float = inf) -> float | None:
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise FieldsError(f"{name}: expected a number")
        # An integer may be too large for a float.
        if not -1e15 <= value <= 1e15 or not isfinite(value) or not lowest <= value <= highest:
            raise FieldsError(f"{name}: number out of range")
        return float(value)

    def boolean(self, name: str) -> bool | None:
        value = self._content.get(name)
        if value is not None and not isinstance(value, bool):
            raise FieldsError(f"{name}: expected true or false")
        return value

    def object(self, name: str) -> "Fields | None":
        value = self._content.get(name)
        return None if value is None else Fields(value, name)

    def array(self, name: str, longest: int) -> Sequence[Any] | None:
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > longest:
            raise FieldsError(f"{name}: expected an array of at most {longest} items")
        return value

    def objects(self, name: str, longest: int) -> "Iterator[Fields]":
        for item in self.array(name, longest) or ():
            yield Fields(item, name)

    def texts(self, name: str, longest: int) -> "Iterator[str]":
        for item in self.array(name, longest) or ():
            yield _text(item, name, 300)


def _text(value: Any, name: str, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise FieldsError(f"{name}: expected text of at most {longest} characters")
    # A server may report any characters; they are not a reason to refuse the results of others.
    return value if value.isprintable() else "".join(c if c.isprintable() else " " for c in value)
