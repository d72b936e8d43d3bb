"""Imports that end badly: the source as it was, nothing left over, and a second try that works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.tenants import SECONDS, SLOWLY
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, import_path, vm_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

IMAGES = "/apis/harvesterhci.io/v1beta1/namespaces/default/virtualmachineimages"


@pytest.fixture(autouse=True)
def healthy(scene: Scene) -> Iterator[None]:
    yield
    scene.harvester.faults.fail_always = False
    scene.harvester.faults.fail_next = 0
    scene.vcenter.clear_faults()


def condition(scene: Scene, name: str, kind: str) -> dict[str, str]:
    entries = scene.status(name).get("conditions") or ()
    return dict(next((entry for entry in entries if entry["type"] == kind), {}))


def images_of(scene: Scene, name: str) -> list[str]:
    uid = scene.control_plane.api.get(import_path("default", name))["metadata"]["uid"]
    return [
        image["metadata"]["name"]
        for image in scene.control_plane.api.items(IMAGES)
        if image["metadata"]["labels"].get("migration.harvesterhci.io/import-uid") == uid
    ]


def wait_for_cleanup(scene: Scene, name: str) -> None:
    wait_until(
        lambda: condition(scene, name, "CleanedUp").get("status") == "True",
        what=f"{name} to be cleaned up",
        timeout_seconds=SECONDS,
    )


def wait_for_event(scene: Scene, name: str, words: str) -> str:
    """Return what `describe` tells of an import's Events once the words are among them; they come later."""

    def events() -> str:
        return scene.control_plane.kubectl("describe", "vmimport", name).partition("Events:")[2]

    wait_until(lambda: words in events(), what=f"an Event of {name}: {words}", timeout_seconds=SECONDS)
    return events()


def test_an_image_that_harvester_gives_up_on_is_tried_three_times_then_all_is_put_back(scene: Scene) -> None:
    scene.add_guest_vm("refused")
    scene.harvester.faults.fail_always = True
    scene.control_plane.apply([vm_import("default", "refused", "refused")])
    status = scene.wait_for_phase("refused", "Failed", "Succeeded")
    assert (status["phase"], status["importStatus"]) == ("Failed", "VMMigrationFailed")
    assert condition(scene, "refused", "Succeeded")["reason"] == "ImageFailed"
    assert "3 attempts" in scene.control_plane.kubectl("get", "vmimport", "refused", "-o", "wide")
    wait_for_cleanup(scene, "refused")
    assert condition(scene, "refused", "CleanedUp")["message"].endswith("; the source VM is on again")
    assert condition(scene, "refused", "SourcePoweredOff")["reason"] == "PowerRestored"
    events = wait_for_event(scene, "refused", "attempt 2 of 3 failed")
    assert [f"attempt {number} of 3 failed" in events for number in (1, 2, 3)] == [True, True, False]
    assert scene.vcenter.state().vm("refused").power_state == "poweredOn"
    assert images_of(scene, "refused") == []
    uid = scene.control_plane.api.get(import_path("default", "refused"))["metadata"]["uid"]
    assert not (scene.controller.scratch / uid).exists()

    scene.harvester.faults.fail_always = False
    scene.control_plane.api.merge(
        f"{import_path('default', 'refused')}/status", {"status": {"importStatus": ""}}
    )
    again = scene.wait_for_phase("refused", "Succeeded", "Invalid")
    assert again["importStatus"] == "virtualMachineRunning"
    assert again["sourcePowerState"] == "PoweredOn"


def test_an_image_that_fails_once_is_replaced(scene: Scene) -> None:
    scene.add_guest_vm("replaced")
    scene.harvester.faults.fail_next = 4  # Harvester itself tries four times before it gives up on an image
    scene.control_plane.apply([vm_import("default", "replaced", "replaced", targetRunStrategy="Halted")])
    assert scene.wait_for_phase("replaced", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert len(images_of(scene, "replaced")) == 2


def test_a_corrupt_disk_ends_the_import_and_the_source_runs_again(scene: Scene) -> None:
    scene.add_guest_vm("corrupt")
    scene.vcenter.fault("corrupt", vm="corrupt", after_bytes=200_000, count=-1)
    scene.control_plane.apply([vm_import("default", "corrupt", "corrupt")])
    status = scene.wait_for_phase("corrupt", "Failed", "Succeeded")
    assert status["phase"] == "Failed"
    assert condition(scene, "corrupt", "DisksExported")["status"] == "False"
    wait_for_cleanup(scene, "corrupt")
    state = scene.vcenter.state()
    assert state.vm("corrupt").power_state == "poweredOn"
    assert not [lease for lease in state.alive_leases if lease.vm == "corrupt"]


def test_the_source_stays_off_after_a_failure_if_the_user_wants_that(scene: Scene) -> None:
    scene.add_guest_vm("left-off")
    scene.harvester.faults.fail_always = True
    wanted = vm_import("default", "left-off", "left-off", onFailure={"restoreSourcePower": False})
    scene.control_plane.apply([wanted])
    scene.wait_for_phase("left-off", "Failed")
    wait_for_cleanup(scene, "left-off")
    assert "left as it is" in condition(scene, "left-off", "CleanedUp")["message"]
    assert condition(scene, "left-off", "SourcePoweredOff")["status"] == "True"
    assert scene.vcenter.state().vm("left-off").power_state == "poweredOff"


def test_a_connection_that_is_cut_is_read_again(scene: Scene) -> None:
    scene.add_guest_vm("cut")
    scene.vcenter.fault("cut", vm="cut", after_bytes=300_000, count=2)
    scene.control_plane.apply([vm_import("default", "cut", "cut")])
    assert scene.wait_for_phase("cut", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert scene.guest.marker in scene.harvester.consoles["default", "cut"]


def test_a_guest_that_ignores_the_request_is_switched_off_after_the_grace_period(scene: Scene) -> None:
    scene.add_guest_vm("stubborn", ignores_shutdown=True)
    wanted = vm_import("default", "stubborn", "stubborn", gracefulShutdownTimeoutSeconds=3)
    scene.control_plane.apply([{**wanted, "spec": {**wanted["spec"], "targetRunStrategy": "Halted"}}])
    assert scene.wait_for_phase("stubborn", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert scene.vcenter.state().vm("stubborn").calls["PowerOffVM_Task"] == 1
    wait_for_event(scene, "stubborn", "GracePeriodOver")
    assert condition(scene, "stubborn", "SourcePoweredOff")["message"] == "switched off hard"


def test_a_vm_that_is_switched_on_while_it_is_read_is_shut_down_and_read_again(scene: Scene) -> None:
    scene.add_guest_vm("restless")
    scene.vcenter.fault("slow", vm="restless", **SLOWLY)
    scene.control_plane.apply([vm_import("default", "restless", "restless")])
    wait_until(
        lambda: scene.status("restless").get("progress", {}).get("percent", 0) > 0,
        what="some progress",
        timeout_seconds=SECONDS,
    )
    scene.vcenter.set_power("restless", "on")
    wait_until(
        lambda: scene.vcenter.state().vm("restless").calls["ShutdownGuest"] == 2,
        what="another shutdown",
        timeout_seconds=SECONDS,
    )
    scene.vcenter.clear_faults()
    assert scene.wait_for_phase("restless", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert scene.guest.marker in scene.harvester.consoles["default", "restless"]
    assert scene.status("restless")["sourcePowerState"] == "PoweredOn"
