"""Figures: how they are kept (`docs/benchmarks.json`) and shown (`docs/benchmarks.md`)."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
JSON_FILE = DOCS / "benchmarks.json"
MARKDOWN_FILE = DOCS / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: `benchmark: figure`; a later run of the same replaces it.
        ours: What we measured of ourselves.
        theirs: The same of what we stand beside, measured in the same run, or the value that is expected of a
            controller of this kind; `what` says which.
        unit: Of both.
        what: What was done, and what `theirs` is.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    what: str

    @property
    def ratio(self) -> float:
        """`ours / theirs`; below 1 is better for times, sizes and counts."""
        return round(self.ours / self.theirs, 3)


def publish(figures: list[Figure]) -> None:
    """Put the figures of one benchmark in the place of its earlier ones, in both files."""
    known = json.loads(JSON_FILE.read_text()) if JSON_FILE.exists() else []
    replaced = {figure.name for figure in figures}
    rows = [row for row in known if row["name"] not in replaced]
    rows += [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
    rows.sort(key=lambda row: row["name"])
    JSON_FILE.write_text(json.dumps(rows, indent=2) + "\n")
    table = "\n".join(
        f"| {row['name']} | {row['ours']:g} {row['unit']} | {row['theirs']:g} {row['unit']} "
        f"| {row['ratio']:g} | {row['what']} |"
        for row in rows
    )
    MARKDOWN_FILE.write_text(
        "# Benchmarks\n\n"
        "Measured by `make bench` on the real parts of the lab; each row in one run. "
        f"Machine of the last run: {os.cpu_count()} cores, {platform.machine()}, Linux, Python "
        f"{platform.python_version()}; the API server, etcd and everything else share these cores.\n\n"
        "| figure | ours | theirs | ratio | what |\n|---|---|---|---|---|\n" + table + "\n"
    )
