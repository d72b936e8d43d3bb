"""Objects that the old controller left behind: taken over in each of its states, none stuck, none redone."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import names
from tests.lab.scene import Scene, import_path, vm_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FINISHED = {
    "virtualMachineRunning": "Succeeded",
    "virtualMachineImportInvalid": "Invalid",
    "VMMigrationFailed": "Failed",
}
UNDER_WAY = ["virtualMachineImportValid", "sourceReady", "diskImageSubmitted", "diskImagesReady"]


def leave_behind(scene: Scene, name: str, word: str, **spec: Any) -> None:
    """Store an import as the old controller leaves it: its finalizer, its status, none of our fields."""
    old = vm_import("default", name, name, **spec)
    old["metadata"]["finalizers"] = [names.OLD_FINALIZER]
    old["spec"]["skipPreflightChecks"] = None
    old["spec"]["defaultDiskBusType"] = ""
    status = {
        "importStatus": word,
        "newVirtualMachine": name,
        "diskImportStatus": [
            {
                "diskName": f"{name}-default-disk-0.img",
                "diskSize": 1024,
                "VirtualMachineImage": "image-abcde",
                "busType": "scsi",
                "diskConditions": [
                    {"type": "VirtualMachineImageSubmitted", "status": "True", "lastUpdateTime": "x"}
                ],
            }
        ],
        "importConditions": [{"type": "VMPoweredOff", "status": "True", "lastUpdateTime": "x"}],
    }
    api = scene.control_plane.api
    scene.controller.pause()  # else ours meets it before it looks like the old one's
    try:
        api.create(f"{import_path('default', '')}".rstrip("/"), old)
        api.merge(f"{import_path('default', name)}/status", {"status": status})
    finally:
        scene.controller.resume()


@pytest.mark.parametrize(("word", "phase"), FINISHED.items())
def test_what_has_ended_keeps_its_word_and_nothing_is_done_again(scene: Scene, word: str, phase: str) -> None:
    name = f"old-{phase.lower()}"
    scene.add_guest_vm(name)
    leave_behind(scene, name, word)
    status = scene.wait_for_phase(name, phase)
    assert status["importStatus"] == word
    stored = scene.control_plane.api.get(import_path("default", name))
    assert stored["metadata"]["finalizers"] == [names.FINALIZER]
    assert status["diskImportStatus"][0]["VirtualMachineImage"] == "image-abcde"
    (vm,) = (vm for vm in scene.vcenter.state().vms if vm.name == name)
    assert vm.power_state == "poweredOn"
    scene.control_plane.kubectl("delete", "vmimport", name, "--timeout=20s")


@pytest.mark.parametrize("word", UNDER_WAY)
def test_what_was_under_way_starts_over_and_succeeds(scene: Scene, word: str) -> None:
    name = f"old-{word.lower()}"
    scene.add_guest_vm(name)
    leave_behind(scene, name, word, targetRunStrategy="Halted")
    status = scene.wait_for_phase(name, "Succeeded", "Failed", "Invalid")
    assert status["phase"] == "Succeeded"
    assert len(status["diskImportStatus"]) == 2
    assert status["diskImportStatus"][0]["VirtualMachineImage"] != "image-abcde"


def test_clearing_the_status_word_of_a_failed_import_starts_it_again(scene: Scene) -> None:
    scene.add_guest_vm("old-again")
    leave_behind(scene, "old-again", "VMMigrationFailed", targetRunStrategy="Halted")
    scene.wait_for_phase("old-again", "Failed")
    scene.control_plane.api.merge(
        f"{import_path('default', 'old-again')}/status", {"status": {"importStatus": ""}}
    )
    assert scene.wait_for_phase("old-again", "Succeeded", "Invalid")["phase"] == "Succeeded"


def test_an_object_with_the_old_finalizer_can_be_deleted(scene: Scene) -> None:
    leave_behind(scene, "old-deleted", "sourceReady", sourceCluster={"kind": "VmwareSource", "name": "gone"})
    scene.control_plane.kubectl("delete", "vmimport", "old-deleted", "--timeout=30s")
