"""What is to be made has to fit: into the namespace's quotas, and under a name of its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.tenants import SLOWLY, wait_for_reason
from tests.lab.scene import Scene, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HALTED: dict[str, Any] = {"networkMapping": [], "targetRunStrategy": "Halted"}


def quota(namespace: str, name: str, hard: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hard": hard},
    }


def findings(status: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in status.get("preflight") or ():
        found.setdefault(entry["id"], []).append(entry["message"])
    return found


def prepare(scene: Scene, tenant: str) -> None:
    scene.add_guest_vm(tenant)
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant))
    wait_for_reason(scene, tenant, "Verified")


def test_each_quota_that_is_too_small_is_named_with_what_is_needed(scene: Scene, tenant: str) -> None:
    small = {"count/persistentvolumeclaims": "1", "limits.memory": "100Mi", "requests.storage": "1Mi"}
    large = {"requests.storage": "1Ti", "limits.cpu": "64", "pods": "50"}
    scene.control_plane.apply([quota(tenant, "small", small), quota(tenant, "large", large)])
    prepare(scene, tenant)
    scene.control_plane.apply([vm_import(tenant, "web", tenant, networkMapping=[])])
    told = findings(scene.wait_for_phase("web", "Invalid", "Succeeded", namespace=tenant))["QuotaExceeded"]
    assert len(told) == len(small)
    for (resource, hard), message in zip(small.items(), told, strict=True):
        assert f"ResourceQuota small allows {hard} of {resource}, " in message
    assert "the VM needs 256Mi" in told[1]
    assert scene.vcenter.state().vm(tenant).power_state == "poweredOn"


def test_a_vm_that_will_not_run_needs_no_quota_for_running(scene: Scene, tenant: str) -> None:
    scene.control_plane.apply([quota(tenant, "no-pods", {"pods": "0", "limits.memory": "1Mi"})])
    prepare(scene, tenant)
    scene.control_plane.apply([vm_import(tenant, "web", tenant, **HALTED)])
    assert scene.wait_for_phase("web", "Invalid", "Succeeded", namespace=tenant)["phase"] == "Succeeded"


def test_of_two_imports_that_want_one_name_one_goes_on_and_the_other_says_so(
    scene: Scene, tenant: str
) -> None:
    prepare(scene, tenant)
    scene.vcenter.fault("slow", vm=tenant, **SLOWLY)
    scene.control_plane.apply([vm_import(tenant, name, tenant, **HALTED) for name in ("one", "two")])
    ended = {
        name: scene.wait_for_phase(name, "Export", "Invalid", namespace=tenant) for name in ("one", "two")
    }
    scene.vcenter.clear_faults()
    assert sorted(status["phase"] for status in ended.values()) == ["Export", "Invalid"]
    (winner,) = (name for name, status in ended.items() if status["phase"] == "Export")
    (loser,) = set(ended) - {winner}
    (message,) = findings(ended[loser])["TargetNameClaimed"]
    assert message == f"import {tenant}/{winner} is under way and makes VirtualMachine {tenant}/{tenant}"
    assert scene.wait_for_phase(winner, "Succeeded", "Failed", namespace=tenant)["phase"] == "Succeeded"
