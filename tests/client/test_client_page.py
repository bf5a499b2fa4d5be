"""The code of docs/client.md. Each block is a module of its own."""

import re
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_code(
    cluster: Cluster, make_daemon: DaemonFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    url = make_daemon(cluster, sleep_ms=100).url
    for block in BLOCKS:
        assert block.count("http://127.0.0.1:8000") == 1
        exec(block.replace("http://127.0.0.1:8000", url), {"__name__": "page"})
    output = capsys.readouterr().out
    hosts = [server.address for server in cluster.servers]
    assert output.startswith(f"{cluster.primary.address}\nChosenHost(")
    assert f"{cluster.primary.address}:{cluster.primary.port} {hosts}\n" in output
    assert re.search(rf"^replicas: .*{cluster.replicas[0].address}", output, re.MULTILINE)
