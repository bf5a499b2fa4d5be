"""The chart as an archive, and the files that are generated from it.

    python -m tests.packaging.chart package DIRECTORY [IMAGE]
    python -m tests.packaging.chart generate

``package`` makes pg-status-VERSION.tgz, with the default image repository IMAGE. ``generate``
writes the variables of the schema, the table of values, the versions, and packaging/kubernetes.
Helm is used as a library, helm-python-sdk.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import helm_python as helm
import yaml

from pgstatus import __version__
from pgstatus.settings.variables import VARIABLES

HERE = Path(__file__).parents[2] / "packaging/helm"
CHART = HERE / "pg-status"
APPLICATION = HERE / "application"
MANIFESTS = HERE.parent / "kubernetes"
# Set by values of their own, or secret.
RESERVED = re.compile(
    r"hosts|delimiter|env_file|state_file|cluster_name|clusters(_dir)?|fallback_direct"
    r"|(pg|upstreams|nats|http)(_.*)?"
)
_TABLE = re.compile(r"(?<=<!-- values -->\n\n).*(?=\n<!-- end of values -->)", re.DOTALL)
_OF_HELM = re.compile(r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)


def render(
    chart: Path, values: Mapping[str, object], *, name: str, namespace: str
) -> dict[str, str]:
    """The rendered templates by their path. helm.HelmError: the values are rejected."""
    with tempfile.TemporaryDirectory() as directory:
        copy = shutil.copytree(chart, Path(directory) / chart.name)
        if chart == APPLICATION:
            # What `helm dependency update` does.
            shutil.copytree(CHART, copy / "charts" / CHART.name)
        with helm.Chart.load(copy) as loaded:
            loaded.validate_schema(dict(values))
            rendered: dict[str, str] = loaded.render(dict(values), name=name, namespace=namespace)
    return {path: text for path, text in rendered.items() if text.strip()}


def package(directory: Path, image: str = "") -> Path:
    """The archive; its version is that of pg-status.

    The same source results in an identical file: its times are SOURCE_DATE_EPOCH.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        copy = shutil.copytree(CHART, Path(temporary) / CHART.name)
        if image:
            values = copy / "values.yaml"
            text = values.read_text()
            default = "  repository: pg-status\n"
            assert default in text
            values.write_text(text.replace(default, f"  repository: {image}\n"))
        seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
        for path in copy.rglob("*"):
            os.utime(path, (seconds, seconds))
        return Path(
            helm.package(copy, destination=directory, version=__version__, app_version=__version__)
        )


def schema() -> str:
    """values.schema.json with the variables of this version."""
    document = json.loads((CHART / "values.schema.json").read_text())
    for definition, variables in (
        ("variables", VARIABLES),
        ("clusterVariables", [v for v in VARIABLES if not v.process]),
    ):
        accepted = sorted(v.name for v in variables if not RESERVED.fullmatch(v.name))
        document["definitions"][definition] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"$ref": "#/definitions/scalar"} for name in accepted},
        }
    return json.dumps(document, indent=2) + "\n"


def table() -> str:
    """The values with their defaults and comments, as Markdown."""
    rows = "".join(
        f"| `{name}` | {f'`{default}`' if default else ''} | {comment} |\n"
        for name, default, comment in _values((CHART / "values.yaml").read_text())
    )
    return f"| value | default | meaning |\n| --- | --- | --- |\n{rows}"


def _values(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and comment of each value. The name and the key of a Secret are one value."""
    parents: list[tuple[str, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.match(r" *# (-- )?(.*)", line):
            if found[1]:
                comment = []
            comment.append(found[2])
        elif found := re.match(r"( *)(\w+): *(.*)", line):
            parents[len(found[1]) // 2 :] = [(found[2], " ".join(comment))]
            comment = []
            default = found[3]
            if found[2] == "key":
                default = f'{{name: "", key: {default}}}'
                parents.pop()
            if default and found[2] != "name":
                yield ".".join(name for name, _ in parents), default, parents[-1][1]
        else:
            comment = []


def readme() -> str:
    text = (CHART / "README.md").read_text()
    return _TABLE.sub(lambda _: table(), text)


def metadata(chart: Path) -> str:
    """Chart.yaml with the version of pg-status."""
    text = (chart / "Chart.yaml").read_text()
    return re.sub(
        r"^( *)(version|appVersion): .*$", rf"\g<1>\g<2>: {__version__}", text, flags=re.MULTILINE
    )


def manifests() -> dict[Path, str]:
    """packaging/kubernetes."""
    found = {}
    for name in ("watchers", "clusters"):
        values = yaml.safe_load((HERE / f"examples/{name}.yaml").read_text())
        rendered = render(CHART, values, name="pg-status", namespace="databases")
        source = f"packaging/helm/pg-status and packaging/helm/examples/{name}.yaml"
        found[MANIFESTS / f"{name}.yaml"] = _manifest(source, rendered)
    rendered = render(APPLICATION, {}, name="application", namespace="default")
    found[MANIFESTS / "sidecar.yaml"] = _manifest("packaging/helm/application", rendered)
    return found


def _manifest(source: str, rendered: Mapping[str, str]) -> str:
    documents = [
        text.strip()
        for path, text in sorted(rendered.items())
        if path.endswith(".yaml") and "/tests/" not in path
    ]
    header = f"# Generated by `make manifests` from {source}.\n"
    return header + _OF_HELM.sub("", "\n---\n".join(documents) + "\n")


def generated() -> dict[Path, str]:
    """All generated files with their content."""
    return {
        CHART / "values.schema.json": schema(),
        CHART / "README.md": readme(),
        CHART / "Chart.yaml": metadata(CHART),
        APPLICATION / "Chart.yaml": metadata(APPLICATION),
        **manifests(),
    }


def main(command: str, *arguments: str) -> None:
    if command == "package":
        directory, *image = arguments
        print(package(Path(directory), *image))  # noqa: T201
        return
    # The manifests are rendered from the generated schema.
    (CHART / "values.schema.json").write_text(schema())
    for path, text in generated().items():
        path.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
