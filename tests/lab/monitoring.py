"""The alert rules and the dashboard that the chart installs, read for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

_FILES = Path(__file__).parents[2] / "charts/harvester-vm-import-controller/files"
ALERTS = _FILES / "alerts.yaml"
DASHBOARD = _FILES / "dashboard.json"


def alert_rules() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard_queries() -> dict[str, list[str]]:
    """Return the queries of each panel, by its title, as Grafana would send them for a short range."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        panel["title"]: [target["expr"].replace("$__rate_interval", "30s") for target in panel["targets"]]
        for panel in panels
        if panel["type"] != "row"
    }
