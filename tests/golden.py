"""Golden files: what a pure function returned when a person last looked at it and found it right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path


def assert_golden(path: Path, found: Any) -> None:
    """Compare with the YAML file at `path`; `GOLDEN=write` writes it, to be read and then kept."""
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
    assert found == yaml.safe_load(path.read_text())
