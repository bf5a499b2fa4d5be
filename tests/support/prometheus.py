"""A real Prometheus with the files of ``packaging/prometheus`` and short intervals."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from pgstatus.demo.network import free_port
from tests.support.running import Program, answers

PACKAGED = Path(__file__).parents[2] / "packaging/prometheus"
INTERVAL = "500ms"


class Prometheus(Program):
    """Scrapes ``targets``. The configuration is the example with other targets and intervals."""

    patience = 30.0

    def __init__(self, directory: Path, address: str, targets: Sequence[Sequence[str]]) -> None:
        config = (PACKAGED / "prometheus.yml").read_text()
        config = re.sub(r"(scrape|evaluation)_interval: \w+", rf"\1_interval: {INTERVAL}", config)
        groups = iter(targets)
        config = re.sub(
            r"targets: \[app.*\]", lambda _: f"targets: [{', '.join(next(groups))}]", config
        )
        (directory / "prometheus.yml").write_text(config)
        rules = (PACKAGED / "alerts.yml").read_text()
        (directory / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
        listen = f"{address}:{free_port([address], 9090)}"
        command = [
            shutil.which("prometheus") or "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={listen}",
            "--log.level=warn",
        ]
        super().__init__(command, directory / "prometheus.log")
        self._client = httpx.Client(base_url=f"http://{listen}", timeout=10)

    def end(self) -> None:
        self._client.close()
        super().end()

    def answers(self) -> bool:
        return answers(self._client, "/-/ready")

    def ask(self, path: str, **parameters: str) -> Any:
        """``data`` of a response of the HTTP API; AssertionError with the response on an error."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and current value of each series."""
        found = self.ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def firing(self, name: str) -> list[dict[str, Any]]:
        """The firing alerts with this name."""
        alerts = self.ask("alerts")["alerts"]
        return [a for a in alerts if a["labels"]["alertname"] == name and a["state"] == "firing"]
