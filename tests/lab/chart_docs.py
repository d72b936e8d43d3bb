"""`make chart-docs`: writes what is derived from the chart anew.

That is the table of values in its README, from the comments in `values.yaml`, and the golden manifests of the
tests. A test fails when either has drifted.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.lab.chart import CHART, rendered
from tests.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUE_SETS = Path(__file__).parents[1] / "integration/chart"
DEFAULT = "default"
_START, _END = "<!-- values:", "<!-- end of values -->"
_LONG = re.compile(r'^(  \S+\.json: )".*"$', re.MULTILINE)  # definitions and dashboard stand elsewhere


def readme() -> str:
    """Return the chart's README with the table of values as it should be."""
    before, start, rest = (CHART / "README.md").read_text().partition(_START)
    marker, _, old = rest.partition("\n")
    after = old.partition(_END)[2]
    if not start or not after:
        raise LabError("the chart's README has no place for the values")
    rows = "\n".join(
        f"| `{name}` | `{default}` | {text} |".replace("`` |", "empty |") for name, default, text in values()
    )
    return f"{before}{start}{marker}\n| value | default | |\n|---|---|---|\n{rows}\n{_END}{after}"


def values() -> Iterator[tuple[str, str, str]]:
    """Yield each documented value of the chart: dotted name, default as JSON, description.

    Raises:
        LabError: a value has no comment.
    """
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _values(root, yaml.safe_load(text), text.splitlines(), "")


def _values(
    mapping: yaml.MappingNode, data: dict[str, object], lines: list[str], prefix: str
) -> Iterator[tuple[str, str, str]]:
    for key, value in mapping.value:
        name, default = f"{prefix}{key.value}", data[key.value]
        comment = _comment_above(lines, key.start_mark.line)
        if comment:
            yield name, "" if default == "" else json.dumps(default), comment
        elif isinstance(value, yaml.MappingNode) and isinstance(default, dict) and default:
            yield from _values(value, default, lines, f"{name}.")
        else:
            raise LabError(f"values.yaml says nothing about {name}")


def _comment_above(lines: list[str], line: int) -> str:
    words: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        words.insert(0, lines[line].lstrip().removeprefix("#").strip())
    return " ".join(words)


def value_sets() -> list[Path]:
    """Return the files with values of which golden manifests exist."""
    return sorted(VALUE_SETS.glob("*.yaml"))


def golden(values_file: Path | None) -> str:
    """Return what the golden file of a set of values should say.

    For none, the whole manifest with the chart's own values; for the others, how theirs differs from it.
    """
    whole = _shape()
    if values_file is None:
        return whole
    other = _shape("--values", values_file)
    lines = list(difflib.unified_diff(whole.splitlines(), other.splitlines(), lineterm="", n=2))
    # Without the file names, and without line numbers, which would change with everything above.
    return "".join("@@\n" if line.startswith("@@") else f"{line}\n" for line in lines[2:])


def _shape(*words: str | Path) -> str:
    """Return what helm renders without the contents of files, which have tests of their own."""
    alerts = textwrap.indent((CHART / "files/alerts.yaml").read_text().rstrip(), "  ")
    return _LONG.sub(r"\1(content)", rendered(*words)).replace(alerts, "  (content)")


def golden_path(values_file: Path | None) -> Path:
    """Return where the golden file of a set of values is."""
    return values_file.with_suffix(".diff") if values_file else VALUE_SETS / f"{DEFAULT}.golden"


def main() -> int:
    """Write everything anew."""
    (CHART / "README.md").write_text(readme())
    for values_file in (None, *value_sets()):
        golden_path(values_file).write_text(golden(values_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
