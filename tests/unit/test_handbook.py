"""The handbook says what the code does: lists are made from it, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.handbook import fields, reasons, source
from tests.lab.controller import our_crds
from tests.lab.monitoring import alert_rules

ROOT = source.ROOT
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_every_reason_of_the_code_is_explained_and_no_other() -> None:
    missing, needless = reasons.undocumented()
    assert (missing, needless) == (set(), set()), "add to docs/remedies.yaml, then `make docs`"


def test_the_page_of_reasons_is_that_of_the_code() -> None:
    assert reasons.PAGE.read_text() == reasons.render(), "`make docs` writes it anew"


def test_the_page_of_fields_is_that_of_the_crds() -> None:
    assert fields.PAGE.read_text() == fields.render(), "`make docs` writes it anew"


def test_every_field_is_described() -> None:
    bare = [
        line
        for line in fields.PAGE.read_text().splitlines()
        if line.startswith("| `") and line.endswith("|  |")
    ]
    assert bare == [], "describe it in manifests/crds"


def test_no_word_of_a_description_became_a_key_of_the_schema() -> None:
    """In YAML's flow style a comma ends a text that is not quoted."""

    def empty(node: Any, path: str) -> list[str]:
        children = (
            node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        )
        return [
            found
            for key, value in children
            for found in ([f"{path}.{key}"] if value is None else empty(value, f"{path}.{key}"))
        ]

    assert [path for crd in our_crds() for path in empty(crd, crd["metadata"]["name"])] == []


def test_every_finding_has_a_remedy_and_says_what_it_is() -> None:
    found = source.collect()
    for name, finding in found.findings.items():
        assert finding.remedies, name
        assert finding.says or name in found.errors, name


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("errors", "TransferInterrupted"),
        ("errors", "VirtualMachineGone"),  # beside the step that raises it
        ("findings", "GuestToolsNotRunning"),
        ("findings", "Paused"),  # from a table
        ("findings", "PrivilegesMissing"),  # by keywords
        ("findings", "CinderQuotaExceeded"),  # through a function of the file
        ("conditions", "ShutdownRequested"),  # through a variable
        ("conditions", "ForcedPowerOff"),  # through a parameter
        ("conditions", "PreparingDisks"),
        ("conditions", "CertificateNotChecked"),  # an Event only
        ("conditions", "PoweredOn"),  # a word of the source
        ("conditions", "Verified"),
    ],
)
def test_reasons_are_found_however_they_are_stated(kind: str, name: str) -> None:
    assert name in getattr(source.collect(), kind)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


def test_every_alert_has_a_section_in_the_handbook() -> None:
    for rule in alert_rules():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor in anchors(ROOT / path), rule["alert"]
