"""Reads declared variables from an environment and collects all errors."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from environs import EnvValidationError

from pgstatus.errors import in_a_line
from pgstatus.settings.files import exposure
from pgstatus.settings.parsers import MappingEnv, is_unicode
from pgstatus.settings.variables import (
    CLUSTERS,
    PREFIX,
    SLEEP,
    SLEEP_MS,
    VARIABLES,
    Variable,
    variable_key,
)

T = TypeVar("T")

# Below this similarity (0 to 1) a suggestion is more confusing than helpful.
_SIMILAR = 0.75


class Reader:
    """The variables of one environment.

    An empty value is treated as unset. After an error `read` returns the default; `finish`
    reports the errors.
    """

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        self.environ = environ
        self.problems = problems
        self.warnings: list[str] = []
        self._env = MappingEnv(environ)
        self._used: dict[str, Variable[object]] = {}

    def read(self, variable: Variable[T]) -> T:
        """The value, or the default."""
        name = self._name(variable)
        value = self.environ.get(name)
        if not value:
            return variable.default
        if not is_unicode(value):
            if name not in self._used:
                self.problems.append(f"{name}: expected text in UTF-8")
            self._used[name] = variable
            return variable.default
        self._used[name] = variable
        parsed = variable.parser.read(self._env, name)
        return variable.default if parsed is None else parsed

    def is_set(self, variable: Variable[object]) -> bool:
        return bool(self.environ.get(self._name(variable)))

    def read_sleep_ms(self) -> int:
        """``sleep_ms``, or ``sleep`` of 1.0 in seconds."""
        if self._chosen(SLEEP_MS.full_name, SLEEP.full_name) == SLEEP_MS.full_name:
            return self.read(SLEEP_MS)
        seconds = self.read(SLEEP)
        return SLEEP_MS.default if seconds is None else max(1, round(seconds * 1000))

    def refuse(self, variable: Variable[object], expected: str) -> None:
        """Report a value that is invalid for a reason that its parser does not know."""
        name = self._name(variable)
        self.problems.append(f"{name}={self._shown(name)}: {expected}")

    def refuse_file(self, variable: Variable[object], error: Exception) -> None:
        """Report an error whose text contains the path or the value."""
        self.problems.append(f"{variable.full_name}: expected {variable.parser.expected} ({error})")

    def warn_if_exposed(
        self, variable: Variable[object], path: Path, *, is_secret: bool = True
    ) -> None:
        """Warn about a file that every user of the machine can change, or read if it is secret."""
        if remark := exposure(path, is_secret=is_secret):
            self.warnings.append(f"{variable.full_name}: {remark}")

    def read_pair(
        self,
        certificate: Variable[Path | None],
        key: Variable[Path | None],
        purpose: str,
        *,
        required: bool = False,
    ) -> tuple[Path, Path] | None:
        """A certificate and its key; None if one is missing, which is a problem unless both are and
        ``purpose``, what they are for, does not require them.
        """
        of_certificate, of_key = self.read(certificate), self.read(key)
        if of_certificate is not None and of_key is not None:
            self.warn_if_exposed(key, of_key)
            return of_certificate, of_key
        if required or of_certificate is not None or of_key is not None:
            missing = certificate if of_certificate is None else key
            names = " and ".join(one.full_name.removeprefix(PREFIX) for one in (certificate, key))
            self.problems.append(
                f"{missing.full_name}: expected a file; {purpose} requires {names}"
            )
        return None

    def finish(self, clusters: Iterable[str] = ()) -> None:
        """Complete ``problems`` and ``warnings`` after all variables have been read.

        ``clusters`` are the names of all clusters, which read their own variables.
        """
        self._finish_values()
        self._warn_of_unknown_names(self.environ, clusters)

    def finish_cluster(self, variables: Iterable[str]) -> None:
        """The same for one of several clusters; ``variables`` are the names of its own."""
        self._finish_values()
        self._refuse_names_of_the_process(variables)
        self._warn_of_unknown_names(variables, ())

    def _finish_values(self) -> None:
        try:
            self._env.seal()
        except EnvValidationError as error:
            for name in error.error_messages or ():
                self.problems.append(
                    f"{name}={self._shown(name)}: expected {self._used[name].parser.expected}"
                )
        self.warnings[:] = dict.fromkeys(self.warnings)

    def _shown(self, name: str) -> str:
        return in_a_line(repr(self.environ.get(name)))

    def _name(self, variable: Variable[object]) -> str:
        if variable.older is None:
            return variable.full_name
        return self._chosen(variable.full_name, PREFIX + variable.older)

    def _chosen(self, name: str, older: str) -> str:
        if not self.environ.get(older):
            return name
        if not self.environ.get(name):
            return older
        self.warnings.append(f"{older} is ignored because {name} is set")
        return name

    def _refuse_names_of_the_process(self, names: Iterable[str]) -> None:
        of_process = {variable.full_name for variable in VARIABLES if variable.process}
        self.problems += [
            f"{name}: it applies to the whole process and cannot be set for one cluster"
            for name in sorted(of_process.intersection(names))
        ]

    def _warn_of_unknown_names(self, names: Iterable[str], clusters: Iterable[str]) -> None:
        known = {variable.full_name for variable in VARIABLES}
        known |= {PREFIX + variable.older for variable in VARIABLES if variable.older}
        of_clusters = tuple(f"{PREFIX}{variable_key(name)}__" for name in clusters if name)
        for name in sorted(names):
            if not name.lower().startswith(PREFIX) or name in known or not is_unicode(name):
                continue
            if name.startswith(of_clusters):
                continue
            hint = _suggestion(name, known)
            if not hint and "__" in name.removeprefix(PREFIX):
                hint = f"; no cluster of this name is in {CLUSTERS.full_name}"
            self.warnings.append(f"{name} is not a variable of pg-status{hint}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415  # rarely needed

    names = [other.removeprefix(PREFIX) for other in known]
    short = name.lower().removeprefix(PREFIX)
    near = difflib.get_close_matches(short, names, 1, _SIMILAR)
    return f"; did you mean {PREFIX}{near[0]}?" if near else ""
