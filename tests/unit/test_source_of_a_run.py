"""Which machine a run is about: settled when Preflight passes, and remembered until its debt is paid."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.phase import Phase
from controller.errors import Verdict
from controller.reconcile.status import next_status, restarted
from tests.unit.objects import NOON, an_import

BEGUN = {
    "kind": "VmwareSource",
    "namespace": "default",
    "name": "vc",
    "virtualMachineName": "web",
    "folder": "",
}
DEBT = {"source": BEGUN, "sourceVM": {"id": "vm-7"}, "sourcePowerState": "PoweredOn"}


def condition(kind: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": "x"}


@pytest.mark.parametrize(
    "edit",
    [
        {"sourceCluster": {"kind": "VmwareSource", "name": "other"}},
        {"sourceCluster": {"kind": "OvaSource", "name": "vc", "namespace": "default"}},
        {"virtualMachineName": "other"},
        {"folder": "other"},
    ],
)
def test_an_edit_of_the_spec_does_not_turn_a_run_to_another_machine(edit: dict[str, Any]) -> None:
    vmimport = an_import(edit, {"phase": "Export", "source": BEGUN})
    assert vmimport.reads == BEGUN != vmimport.wanted


def test_before_preflight_has_passed_the_spec_says_what_is_read() -> None:
    vmimport = an_import(status={"phase": "Preflight"})
    assert vmimport.reads == vmimport.wanted == BEGUN


def test_a_restart_remembers_only_which_machine_is_switched_off() -> None:
    status = {"phase": "Export", "runID": "abc", "diskImportStatus": [{}], **DEBT}
    assert restarted(an_import(status=status), has_vm=False) == DEBT


def test_a_restart_owes_nothing_once_the_vm_exists() -> None:
    assert restarted(an_import(status={"phase": "WaitForVM", **DEBT}), has_vm=True) == {}


@pytest.mark.parametrize(("restore", "kept"), [(True, {}), (False, DEBT)])
def test_a_restart_owes_nothing_after_the_power_was_given_back(restore: bool, kept: dict[str, Any]) -> None:  # noqa: FBT001
    status = {"phase": "Failed", "conditions": [condition("CleanedUp")], **DEBT}
    vmimport = an_import({"onFailure": {"restoreSourcePower": restore}}, status)
    assert restarted(vmimport, has_vm=False) == kept


def test_an_invalid_import_owes_nothing() -> None:
    verdict = Verdict("PreflightFailed", "no such network", retryable=False)
    status = next_status(an_import(status={"phase": "Preflight", **DEBT}), verdict, NOON)
    assert status["phase"] == Phase.INVALID
    assert not DEBT.keys() & status.keys()
