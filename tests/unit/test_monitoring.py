"""The files for Prometheus and Grafana and their documentation, without running programs."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text()
TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text()
RULES = (ROOT / "packaging/prometheus/alerts.yml").read_text()
DASHBOARD = json.loads((ROOT / "packaging/prometheus/pg-status.json").read_text())


def test_the_documentation_lists_all_alerts() -> None:
    alerts = [
        (
            rule.split("\n")[0],
            re.findall(r"severity: (\w+)", rule)[0],
            (re.findall(r"^ +for: (\w+)$", rule, re.MULTILINE) or ["at once"])[0],
        )
        for rule in RULES.split("- alert: ")[1:]
    ]
    assert len(alerts) > 10
    assert re.findall(r"^\| `(PgStatus\w+)` \| (\w+) \| ([\w ]+) \|", PAGE, re.MULTILINE) == alerts


def test_every_alert_describes_an_action() -> None:
    for rule in RULES.split("- alert: ")[1:]:
        assert re.search(r"severity: (critical|warning)\n", rule)
        assert re.search(r"summary: '.+'\n", rule)
        description = rule.partition("description: >-\n")[2]
        assert len(description.split()) > 15


def test_every_alert_refers_to_its_section_of_the_documentation() -> None:
    sections = re.findall(r"^### (\w+)$", TROUBLESHOOTING, re.MULTILINE)
    assert sections == re.findall(r"- alert: (\w+)$", RULES, re.MULTILINE)
    page = "https://pg-status.example/troubleshooting.html"
    assert re.findall(r"runbook_url: '(.*)'$", RULES, re.MULTILINE) == [
        f"{page}#{section.lower()}" for section in sections
    ]
    (command,) = re.findall(r"^sed -i 's\|(.*?)\|.*alerts\.yml$", PAGE, re.MULTILINE)
    assert page.startswith(command)


def test_panels_use_the_selected_data_source_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in (panel for panel in DASHBOARD["panels"] if panel["type"] != "row"):
        assert panel["title"]
        assert panel["description"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source["uid"] == "${datasource}" for source in sources)
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in own) < 24
        assert not own & taken
        taken |= own
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
