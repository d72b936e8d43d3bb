"""What is said of a new VM that does not run."""

from __future__ import annotations

from controller.phases.wait_for_vm import explain


def test_a_vm_that_harvester_has_stopped_for_want_of_quota_says_so() -> None:
    ready = {"type": "Ready", "status": "False", "reason": "VMINotExists", "message": "VMI does not exist"}
    words = "resource quota: insufficient memory"
    stopped = {
        "metadata": {"annotations": {"harvesterhci.io/insufficient-resource-quota": words}},
        "status": {"printableStatus": "Stopped", "conditions": [ready]},
    }
    assert explain(stopped) == f"Stopped; Ready: VMI does not exist; Harvester has stopped it: {words}"


def test_a_vm_without_a_word_of_its_own_has_not_started_yet() -> None:
    assert explain({"metadata": {}}) == "not started yet"
