from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller import __version__
from controller.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        phases=["Export", "Failed"],
        source_kinds=["VmwareSource"],
        retry_reasons=["Unreachable"],
        failure_reasons=["NameTaken"],
    )


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return values by name and label values, these in the order of the labels' names."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize(
    "key",
    [
        ("vm_import_phase_duration_seconds_count", ("Failed",)),
        ("vm_import_transferred_bytes_total", ("VmwareSource",)),
        ("vm_import_retries_total", ("Unreachable",)),
        ("vm_import_failures_total", ("NameTaken",)),
        ("vm_import_api_requests_total", ("error", "watch")),
        ("vm_import_leader", ()),
    ],
)
def test_what_is_known_beforehand_starts_at_zero(metrics: Metrics, key: tuple[str, tuple[str, ...]]) -> None:
    assert samples(metrics)[key] == 0


def test_every_name_has_the_prefix_or_is_the_processs_own(metrics: Metrics) -> None:
    metrics.workqueue("imports")
    names = {name for name, _ in samples(metrics)}
    assert all(name.startswith(("vm_import_", "process_")) for name in names)
    assert not any(name.endswith("_created") for name in names)
    assert "process_resident_memory_bytes" in names


def test_work_queues_use_client_gos_names(metrics: Metrics) -> None:
    metrics.workqueue("imports")
    found = samples(metrics)
    for name in (
        "depth",
        "adds_total",
        "queue_duration_seconds_count",
        "work_duration_seconds_count",
        "retries_total",
        "unfinished_work_seconds",
        "longest_running_processor_seconds",
    ):
        assert found[f"vm_import_workqueue_{name}", ("imports",)] == 0


def test_api_requests_are_counted_by_verb_and_code(metrics: Metrics) -> None:
    metrics.observe_api_request("get", "404")
    metrics.observe_api_request("get", "404")
    assert samples(metrics)["vm_import_api_requests_total", ("404", "get")] == 2


def test_the_version_is_shown(metrics: Metrics) -> None:
    assert samples(metrics)["vm_import_build_info", (__version__,)] == 1


def test_two_instances_do_not_share_a_registry() -> None:
    one, two = Metrics(phases=["Export"]), Metrics(phases=["Export"])
    one.failures.labels("ImageFailed").inc()
    assert ("vm_import_failures_total", ("ImageFailed",)) not in samples(two)
