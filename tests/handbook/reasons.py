"""The page of all reasons, `docs/reasons.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.handbook import source
from tests.handbook.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAGE = ROOT / "docs/reasons.md"
REMEDIES = ROOT / "docs/remedies.yaml"

_HEAD = """\
<!-- Written by `make docs` from the code and docs/remedies.yaml; do not edit. -->

# Reasons

Every word that can stand as `reason` in a condition or an Event, or as `id` in `status.preflight`. Reasons
are API: scripts and alerts may depend on them. The message beside a reason names what is meant in each case.

```console
$ kubectl get vmimport -A -o wide            # MESSAGE: what each import does or waits for
$ kubectl describe vmimport NAME             # conditions, findings, Events
$ kubectl get vmimport NAME -o jsonpath='{.status.conditions[?(@.type=="Succeeded")].reason}'
```
"""

_FINDINGS = """
## Findings of Preflight

Before anything is touched, everything is looked at, and all findings are told together in `status.preflight`.
What *stops* makes the import Invalid; editing it starts it again. *Unless skipped*:
`spec.skipPreflightChecks: true` overrules it. What *warns* is told as an Event, too, is named in
the condition `PreflightPassed`, and stops nothing.

| id | weight | says | remedy |
|---|---|---|---|
"""

_ERRORS = """
## Errors

*Tried again*: the import or source stays where it is, goes on by itself when the cause is gone, and says
meanwhile what it waits for. *Ends*: the import becomes Invalid (in Preflight, when nothing was touched) or
Failed (afterwards; its source is put back as it was). On a source, both mean not ready, and that it is
verified again.

| reason | then | when | remedy |
|---|---|---|---|
"""

_CONDITIONS = """
## Where an import is

| reason | stands in | means |
|---|---|---|
"""


def render() -> str:
    """Return the page.

    Raises:
        KeyError: a reason is in the code and not in `docs/remedies.yaml`.
    """
    found = source.collect()
    known = remedies()
    lines = [_HEAD, _FINDINGS]
    for name, finding in sorted(found.findings.items()):
        says = finding.says or [_when(error) for error in found.errors.get(name, ())]
        remedies_given = " Or: ".join(dict.fromkeys(finding.remedies))
        lines.append(_row(f"`{name}`", _joined(finding.weights), _joined(says), remedies_given))
    lines.append(_ERRORS)
    for name, kinds in sorted(found.errors.items()):
        then = _joined("tried again" if kind.retryable else "ends" for kind in kinds)
        when = _joined(_when(kind) for kind in kinds)
        lines.append(_row(f"`{name}`", then, when, known["errors"][name]))
    lines.append(_CONDITIONS)
    for name, where in sorted(found.conditions.items()):
        if name in _told_above(found):
            continue
        places = ", ".join(f"`{place}`" if place != "Event" else place for place in sorted(where))
        lines.append(_row(f"`{name}`", places, known["conditions"][name]))
    return "".join(lines)


def remedies() -> Mapping[str, Mapping[str, str]]:
    """Return what is said of reasons beside the code."""
    return dict(yaml.safe_load(REMEDIES.read_text()))


def undocumented() -> tuple[set[str], set[str]]:
    """Return `(reasons of the code that the file lacks, reasons in the file that the code lacks)`."""
    found, known = source.collect(), remedies()
    conditions = found.conditions.keys() - _told_above(found)
    wanted = {("errors", name) for name in found.errors} | {("conditions", name) for name in conditions}
    there = {(part, name) for part, entries in known.items() for name in entries}
    return (
        {f"{part}: {name}" for part, name in wanted - there},
        {f"{part}: {name}" for part, name in there - wanted},
    )


def _told_above(found: source.Reasons) -> set[str]:
    """Return errors that stand in conditions too; what a waiting import says deserves words of its own."""
    return set(found.errors)


def _when(error: source.ErrorReason) -> str:
    return error.when.removeprefix("Surfaces ").removesuffix(".")


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |\n"


def _joined(parts: Iterable[str]) -> str:
    return "; or ".join(dict.fromkeys(parts))
