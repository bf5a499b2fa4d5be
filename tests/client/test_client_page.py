"""The code of docs/client.md."""

import re
from pathlib import Path

import pytest

from pgstatus.demo.cluster import Cluster
from tests.conftest import DaemonFactory

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text()


def test_the_code_for_change_notifications(
    cluster: Cluster, make_daemon: DaemonFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.partition("## Change notifications")[2].partition("\n## ")[0]
    code = "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    url = make_daemon(cluster, sleep_ms=100).url
    assert code.count("http://127.0.0.1:8000") == 2
    exec(code.replace("http://127.0.0.1:8000", url), {"__name__": "page"})
    output = capsys.readouterr().out
    hosts = [server.address for server in cluster.servers]
    assert f"{cluster.primary.address}:{cluster.primary.port} {hosts}\n" in output
    assert re.search(rf"^replicas: .*{cluster.replicas[0].address}", output, re.MULTILINE)
