"""What an operator's Prometheus and Grafana see of the controller: a real one scrapes it during an import."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.monitoring import ALERTS, alert_rules, dashboard_queries
from tests.lab.processes import wait_until
from tests.lab.prometheus import Prometheus, promtool
from tests.lab.scene import Scene, vm_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECONDS = 180
# Panels that are empty when nothing goes wrong, or before anything has ended.
MAY_BE_EMPTY = {"Failures", "Answers that are no success"}


@pytest.fixture(scope="module")
def prometheus(scene: Scene) -> Iterator[Prometheus]:
    """A Prometheus that has seen an import, its export under way and its end, and sees one that waits."""
    with Prometheus(scene.controller.metrics_port, ALERTS) as prometheus:
        scene.add_guest_vm("scraped")
        scene.vcenter.fault("slow", vm="scraped", bytes_per_second=25_000, count=-1)
        try:
            waiting = vm_import("default", "waits-for-its-source", "scraped", source="not-there-yet")
            scene.control_plane.apply([vm_import("default", "scraped", "scraped"), waiting])
            wait_until(
                lambda: (
                    _value(prometheus, 'vm_import_transfers{state="running"}') > 0
                    and _value(prometheus, "sum(rate(vm_import_transferred_bytes_total[10s]))") > 0
                    and _value(prometheus, "sum(vm_import_transfer_bytes_per_second)") > 0
                    and _value(prometheus, 'vm_import_imports_under_way{reason="Exporting"}') > 0
                ),
                what="a scrape in the middle of the export",
                timeout_seconds=SECONDS,
                processes=[prometheus.process, scene.controller.process],
            )
        finally:
            scene.vcenter.clear_faults()
        scene.wait_for_phase("scraped", "Succeeded")
        wait_until(
            lambda: (
                _value(prometheus, 'increase(vm_import_phase_duration_seconds_count{phase="Export"}[5m])') > 0
            ),
            what="a scrape after the import",
            timeout_seconds=SECONDS,
            processes=[prometheus.process],
        )
        yield prometheus
    scene.control_plane.kubectl("delete", "vmimport", "waits-for-its-source")


def _value(prometheus: Prometheus, expression: str) -> float:
    return sum(float(series["value"][1]) for series in prometheus.query(expression))


def test_promtool_finds_nothing_wrong_with_the_metrics(scene: Scene) -> None:
    assert promtool("check", "metrics", stdin=scene.controller.get("/metrics")) == ""


def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    answers = {
        title: [bool(prometheus.query(query)) for query in queries]
        for title, queries in dashboard_queries().items()
    }
    assert len(answers) > 20
    assert {title for title, found in answers.items() if not all(found)} <= MAY_BE_EMPTY


def test_the_dashboard_shows_no_metric_that_nobody_exposes(scene: Scene, prometheus: Prometheus) -> None:
    """A query for a name that does not exist is valid and empty, as one of a quiet panel is."""
    exposed = scene.controller.get("/metrics")
    for title in MAY_BE_EMPTY:
        for query in dashboard_queries()[title]:
            (name,) = [
                word
                for word in query.replace("(", " ").replace("[", " ").replace("{", " ").split()
                if word.startswith("vm_import_")
            ]
            assert f"\n{name}{{" in exposed
    assert prometheus.process.running


def test_every_alert_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    wait_until(
        lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()),
        what="an evaluation of every rule",
        timeout_seconds=SECONDS,
        processes=[prometheus.process],
    )
    found = {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in prometheus.rules()}
    assert found == {rule["alert"]: ("ok", "") for rule in alert_rules()}


def test_no_alert_fires_over_an_import_that_goes_well(prometheus: Prometheus) -> None:
    critical = [rule for rule in prometheus.rules() if rule["labels"]["severity"] == "critical"]
    assert critical
    assert {rule["name"] for rule in critical if rule["state"] == "firing"} == set()
    wait_until(  # a scrape may be late, and what waits for the next one is pending
        lambda: all(
            rule["state"] == "inactive"
            for rule in prometheus.rules()
            if rule["labels"]["severity"] == "critical"
        ),
        what="no critical alert",
        timeout_seconds=SECONDS,
        processes=[prometheus.process],
    )
