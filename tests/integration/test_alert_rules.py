"""The alert rules: valid, tested both ways, and with a section in the handbook behind each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.lab.monitoring import ALERTS, alert_rules
from tests.lab.prometheus import promtool

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UNIT_TESTS = ROOT / "tests/rules/alerts.yaml"


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", ALERTS)


def test_each_rule_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", UNIT_TESTS)
    fires: set[str] = set()
    rests: set[str] = set()
    for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for case in test.get("alert_rule_test") or ():
            (fires if case.get("exp_alerts") else rests).add(case["alertname"])
        for expression in test.get("promql_expr_test") or ():
            fires |= set(re.findall(r'alertname="(\w+)"', str(expression["exp_samples"])))
    names = {rule["alert"] for rule in alert_rules()}
    assert fires == names
    assert rests == names
