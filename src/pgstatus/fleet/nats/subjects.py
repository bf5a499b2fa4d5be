"""The subjects and keys of one cluster. Pure."""

import re
from dataclasses import dataclass

_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]")


def token(name: str) -> str:
    """A name as a part of a key: other characters than letters, digits, _ and - as ``=2E``."""
    return _ILLEGAL.sub(lambda found: "".join(f"={b:02X}" for b in found[0].encode()), name)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Where the evidence of one cluster is, and where its watchers are asked."""

    bucket: str
    cluster: str

    @property
    def stream(self) -> str:
        """That stores the bucket."""
        return f"KV_{self.bucket}"

    @property
    def values(self) -> str:
        """All watchers of the cluster."""
        return self.value_of("*", encode=False)

    def value_of(self, watcher: str, *, encode: bool = True) -> str:
        last = token(watcher) if encode else watcher
        return f"$KV.{self.bucket}.{token(self.cluster)}.{last}"

    def watcher_of(self, subject: str) -> str:
        """The last part of the key, as it is in the bucket."""
        return subject.rpartition(".")[2]

    @property
    def clock(self) -> str:
        """A request here is answered with the time of each watcher."""
        return f"{self.bucket}.clock.{token(self.cluster)}"

    @property
    def positions(self) -> str:
        """A message here requests checks of the replay positions."""
        return f"{self.bucket}.positions.{token(self.cluster)}"
