"""One response of ``/metrics``, parsed by prometheus_client."""

from collections import Counter
from collections.abc import Iterable
from typing import cast

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from tests.support.daemon import Daemon

Samples = dict[tuple[str, ...], float]


class Scrape:
    """``scrape["name"]`` is a value for each tuple of label values, in the order of their names."""

    def __init__(self, media_type: str, body: str) -> None:
        parse = openmetrics if media_type.startswith("application/openmetrics-text") else text
        self.media_type = media_type
        self.families = list(cast("Iterable[Metric]", parse(body)))

    def __getitem__(self, name: str) -> Samples:
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name
        }

    @property
    def names(self) -> set[str]:
        """The names of all families as in OpenMetrics: of a counter without ``_total``."""
        return {family.name for family in self.families}


def scrape(daemon: Daemon, accept: str = "text/plain") -> Scrape:
    """Scrape the daemon."""
    answer = daemon.get("/metrics", Accept=accept)
    assert answer.status_code == 200
    return Scrape(answer.headers["Content-Type"], answer.text)


def counted(daemon: Daemon, name: str = "pg_status_http_requests_total") -> Counter[object]:
    """The values of a counter that are not 0."""
    return Counter({labels: int(value) for labels, value in scrape(daemon)[name].items() if value})
