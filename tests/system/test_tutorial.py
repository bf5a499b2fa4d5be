"""The commands of docs/tutorial.md, executed as written on a demo of another port."""

import re
import subprocess
import sys
from pathlib import Path

from tests.system.test_demo import Demo, environment

__all__ = ["environment"]

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()


def test_the_commands_of_the_tutorial(environment: dict[str, str], tmp_path: Path) -> None:
    start, *blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert start == "make run\n"
    output = []
    with Demo(tmp_path / "log", environment) as demo:
        address = str(demo.client.base_url).removeprefix("http://").rstrip("/")
        for block in blocks:
            commands = block.replace("127.0.0.1:8000", address)
            commands = commands.replace("make failover", f"{sys.executable} -m pgstatus failover")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{commands}{done.stdout}{done.stderr}"
            output.append(done.stdout)
        log = demo.log
    asked, explained, failover, explained_later, watched = output
    assert asked.count("\n") == 5
    assert asked.splitlines()[3].startswith('{"host": "127.')
    assert explained.count("\n+ ") == 2
    assert re.search(r"^after: .* s after the crash$", failover, re.MULTILINE)
    change = r"INFO +\S+:\d+ is now the master \(timeline 2, previously \S+:\d+\)$"
    assert re.search(change, log, re.MULTILINE)
    assert re.search(rf"^{change}", PAGE, re.MULTILINE)
    reasons = sorted(line.split(" ", 2)[2] for line in explained_later.strip().splitlines())
    assert reasons[0] == "is the master"
    assert [reason in " ".join(PAGE.split()) for reason in reasons[1:]] == [True, True]
    assert "event: answer\n" in watched
