"""`packaging/pgbouncer/pgbouncer-follow` with its two files and its PgBouncer."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pgstatus.demo.cluster import Server
from tests.support.bouncer import Bouncer

SCRIPT = Path(__file__).parents[2] / "packaging/pgbouncer/pgbouncer-follow"
TEMPLATE = "[databases]\npostgres = host=@HOST@ port=@PORT@\n"


class Follower:
    """``directory`` must be accessible for every account: PgBouncer reads the file at RELOAD."""

    def __init__(
        self,
        directory: Path,
        address: str,
        template: str = TEMPLATE,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.template = directory / "databases.ini.in"
        self.template.write_text(template)
        self.file = directory / "databases.ini"
        self.file.touch()
        self.file.chmod(0o644)
        # As in docs/pgbouncer.md.
        options = {"server_login_retry": 0.1, **(options or {})}
        self.bouncer = Bouncer(directory, address, f"%include {self.file}", options)

    def words(self, *options: str) -> list[str]:
        """The command line; without ``-u`` it is the command of `on_change`."""
        console = self.bouncer.conninfo("pgbouncer")
        return [str(SCRIPT), "-a", console, *options, str(self.template), str(self.file)]

    def command(self, *options: str) -> str:
        return shlex.join(self.words(*options))

    def run(self, *options: str, **state: str) -> "subprocess.CompletedProcess[str]":
        """Run the script. ``MASTER="a"`` sets ``PG_STATUS_MASTER``; the default of its port is
        5432.
        """
        return subprocess.run(
            self.words(*options),
            env=environment(**state),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def point_at(self, server: Server, **state: str) -> "subprocess.CompletedProcess[str]":
        """Run the script as the hook; AssertionError with its output if it fails."""
        done = self.run(MASTER=server.address, MASTER_PORT=str(server.port), **state)
        assert done.returncode == 0, done.stderr
        return done


def environment(**state: str) -> dict[str, str]:
    if "MASTER" in state:
        state.setdefault("MASTER_PORT", "5432")
    return {**os.environ, **{f"PG_STATUS_{name}": value for name, value in state.items()}}
