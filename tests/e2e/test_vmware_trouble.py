"""Trouble between the controller and a vCenter: what passes is survived and told, what does not ends cleanly.

What takes half a minute or more to pass is started before the first test and looked at by the last ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.e2e.tenants import PATH, Tenancy, wait_for_reason
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, import_path, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECONDS: Final = 120
RUNNING_TASK: Final = {"task": {"type": "Task", "value": "task-1"}}
ATTEMPTS: Final = 4  # quick ones for each disk, before it counts as an outage


@pytest.fixture(scope="module", autouse=True)
def slow_ones(scene: Scene) -> Iterator[Tenancy]:
    """Imports in trouble that lasts, each named after its own."""
    scene.control_plane.kubectl("create", "namespace", "slow-trouble")
    with Tenancy.of(scene, "slow-trouble") as tenancy:
        vms = {
            name: tenancy.add_vm(name) for name in ("stalls", "refused", "refused-for-ever", "busy", "locked")
        }
        order = tenancy.vcenter.fault
        order("stall", vm="stalls", disk=vms["stalls"].disks[1].key, after_bytes=100_000)
        order("status", vm="refused", disk=vms["refused"].disks[1].key, status=503, count=ATTEMPTS + 1)
        order("status", vm="refused-for-ever", status=503, count=-1)
        order("method_fault", vm="busy", method="ExportVm", fault="TaskInProgress", detail=RUNNING_TASK)
        order("lease_error", vm="locked", fault="FileLocked", detail={"file": "[LocalDS_0] x.vmdk"})
        for name in vms:
            tenancy.start(name)
        yield tenancy
    scene.control_plane.kubectl("delete", "namespace", "slow-trouble", "--wait=false")


@pytest.fixture(scope="module", autouse=True)
def outage(scene: Scene) -> Iterator[Tenancy]:
    """An import whose vCenter is away in the middle of the export; the last tests bring it back."""
    scene.control_plane.kubectl("create", "namespace", "outage")
    with Tenancy.of(scene, "outage") as tenancy:
        tenancy.start_slowly("web")
        tenancy.vcenter.settings(down=True)
        tenancy.wait_for("web", "Unreachable")
        yield tenancy
    scene.control_plane.kubectl("delete", "namespace", "outage", "--wait=false")


@pytest.fixture
def own(scene: Scene, tenant: str) -> Iterator[Tenancy]:
    with Tenancy.of(scene, tenant) as tenancy:
        yield tenancy


def test_a_lease_that_expires_is_replaced(own: Tenancy) -> None:
    own.start_slowly("web")
    own.vcenter.expire_leases("web")
    own.vcenter.clear_faults()
    assert own.ended("web")["phase"] == "Succeeded"
    first, second = own.vcenter.state().leases
    assert (first.state, first.timed_out, second.state) == ("error", True, "done")
    assert [completed for _, completed in own.disks("web")] == [1, 1]
    (*_, interrupted) = (line for line in own.log("web") if line["event"] == "transfer interrupted")
    assert (interrupted["level"], interrupted["attempt"]) == ("warning", 1)


def test_a_session_that_is_lost_is_renewed_once_and_the_import_goes_on(own: Tenancy) -> None:
    own.vcenter.settings(lease_timeout_seconds=4)  # the lost session's lease has to die by itself
    own.start_slowly("web")
    before = own.vcenter.state().logins
    own.vcenter.expire_sessions()
    own.vcenter.clear_faults()
    assert own.ended("web")["phase"] == "Succeeded"
    assert own.vcenter.state().logins - before == 1


def test_a_password_that_is_refused_in_the_middle_is_told_and_the_corrected_one_is_used(own: Tenancy) -> None:
    own.start_slowly("web")
    before = own.vcenter.state()
    own.vcenter.set_credentials(own.vcenter.username, "changed")
    own.vcenter.expire_sessions()
    told = own.wait_for("web", "AuthenticationFailed")
    assert told["status"] == "Unknown"
    assert own.events("web", "AuthenticationFailed")["AuthenticationFailed"] == "Warning"
    assert own.status("web")["importStatus"] == "sourceReady"
    own.vcenter.clear_faults()
    own.scene.control_plane.apply(vmware_source(own.vcenter, own.namespace)[:1])
    assert own.ended("web")["phase"] == "Succeeded"
    after = own.vcenter.state()
    assert after.refused_logins - before.refused_logins <= 2  # a directory locks at 5
    assert own.calls("web")["ShutdownGuest"] == 1
    own.vcenter.expire_leases()  # that of the lost session, whom only its timeout ends


def test_another_certificate_in_the_middle_stops_everything_until_its_pin_is_cleared(own: Tenancy) -> None:
    own.vcenter.settings(lease_timeout_seconds=4)
    own.start_slowly("web")
    own.vcenter.new_certificate()
    before = own.vcenter.state()
    told = own.wait_for("web", "CertificateChanged")
    assert own.vcenter.fingerprint in told["message"]
    assert own.events("web", "CertificateChanged")["CertificateChanged"] == "Warning"
    patch_source(own, {"spec": {"maxConcurrentTransfers": 3}})  # so that it is verified again at once
    told = wait_for_reason(own.scene, own.namespace, "CertificateChanged")
    assert told["status"] == "False"
    assert own.vcenter.state().calls == before.calls  # nobody was spoken to, let alone told a password
    own.vcenter.clear_faults()
    patch_source(own, {"status": {"tlsFingerprint": ""}}, "/status")
    assert own.ended("web")["phase"] == "Succeeded"
    source = own.scene.control_plane.api.get(source_path(own))
    assert source["status"]["tlsFingerprint"] == own.vcenter.fingerprint
    own.vcenter.expire_sessions()  # nobody could log the old one out at a host with another certificate


def test_a_guest_that_cannot_be_asked_is_switched_off_when_the_grace_period_is_over(own: Tenancy) -> None:
    own.add_vm("mute", tools="not_installed")
    own.start("mute", skipPreflightChecks=True, gracefulShutdownTimeoutSeconds=3)
    status = own.ended("mute")
    assert status["phase"] == "Succeeded"
    assert [finding["id"] for finding in status["preflight"]] == ["GuestToolsNotRunning"]
    assert own.events("mute", "GuestToolsNotRunning", "GracePeriodOver")
    assert own.calls("mute")["PowerOffVM_Task"] == 1
    reasons = {entry["type"]: entry["reason"] for entry in status["importConditions"]}
    assert reasons["VMShutdownGuest"] == "GuestToolsNotRunning"
    assert reasons["VMPoweringOff"] == "GracePeriodOver"
    assert status["sourcePowerState"] == "PoweredOn"


def test_a_suspended_vm_is_switched_off_if_its_memory_may_go(own: Tenancy) -> None:
    own.add_vm("asleep", power_state="suspended")
    own.start("asleep", skipPreflightChecks=True, gracefulShutdownTimeoutSeconds=2)
    status = own.ended("asleep")
    assert (status["phase"], status["sourcePowerState"]) == ("Succeeded", "Suspended")
    assert own.events("asleep", "GracePeriodOver")
    assert own.vcenter.state().vm("asleep").power_state == "poweredOff"


def test_a_vm_is_switched_off_hard_at_once_if_the_import_says_so(own: Tenancy) -> None:
    own.add_vm("hard", ignores_shutdown=True)
    own.start("hard", forcePowerOff=True)
    assert own.ended("hard")["phase"] == "Succeeded"
    assert own.events("hard", "ForcedPowerOff")
    assert own.calls("hard")["PowerOffVM_Task"] == 1
    assert "ShutdownGuest" not in own.calls("hard")


def test_of_two_disks_only_the_one_that_broke_is_read_again(own: Tenancy) -> None:
    vm = own.add_vm("half")
    own.vcenter.fault("cut", vm="half", disk=vm.disks[1].key, after_bytes=200_000, count=2)
    own.start("half")
    assert own.ended("half")["phase"] == "Succeeded"
    assert own.disks("half") == [(1, 1), (3, 1)]
    assert own.calls("half")["ExportVm"] == 1


# --- what was started first


def test_a_source_that_an_import_cannot_reach_does_not_stand_as_ready(outage: Tenancy) -> None:
    told = wait_for_reason(outage.scene, outage.namespace, "Unreachable")
    assert told["status"] == "False"
    outage.vcenter.settings(down=False)
    outage.vcenter.clear_faults()


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("refused", "TransferInterrupted", "503"),
        ("busy", "SourceBusy", "TaskInProgress"),
        ("locked", "ExportFailed", "FileLocked"),
    ],
)
def test_what_outlasts_the_quick_attempts_is_told_and_tried_again_later(
    slow_ones: Tenancy, name: str, reason: str, words: str
) -> None:
    assert slow_ones.ended(name)["phase"] == "Succeeded"
    assert slow_ones.events(name, reason)[reason] == "Warning"
    failures = [line for line in slow_ones.log(name) if line["event"] == "transfer failed"]
    assert {line["reason"] for line in failures} == {reason}
    assert words in failures[0]["error"]


def test_after_an_outage_the_disk_that_was_read_is_not_read_again(slow_ones: Tenancy) -> None:
    assert slow_ones.ended("refused")["phase"] == "Succeeded"
    assert slow_ones.disks("refused") == [(1, 1), (1, 1)]


def test_an_import_goes_on_when_its_vcenter_is_back(outage: Tenancy) -> None:
    assert outage.ended("web")["phase"] == "Succeeded"
    assert outage.events("web", "Unreachable")["Unreachable"] == "Warning"
    assert [completed for _, completed in outage.disks("web")] == [1, 1]
    assert outage.vcenter.state().vm("web").power_state == "poweredOff"


def test_an_import_whose_disks_are_refused_for_ever_goes_on_trying_and_can_be_deleted(
    slow_ones: Tenancy,
) -> None:
    told = slow_ones.wait_for("refused-for-ever", "TransferInterrupted")
    assert told["status"] == "Unknown"
    assert "tried again every 30 s" in told["message"]
    assert slow_ones.status("refused-for-ever")["phase"] == "Export"
    source = "refused-for-ever"
    assert slow_ones.vcenter.state().vm(source).power_state == "poweredOff"
    uid = slow_ones.scene.control_plane.api.get(import_path(slow_ones.namespace, source))["metadata"]["uid"]
    slow_ones.scene.control_plane.kubectl(
        "delete", "vmimport", source, "-n", slow_ones.namespace, "--timeout=120s"
    )
    state = slow_ones.vcenter.state()
    assert state.vm(source).power_state == "poweredOn"
    assert not [lease for lease in state.alive_leases if lease.vm == source]
    assert not (slow_ones.scene.controller.scratch / uid).exists()


def test_a_body_that_stalls_is_given_up_and_read_again(slow_ones: Tenancy) -> None:
    wait_until(
        lambda: slow_ones.status("stalls").get("phase") == "Succeeded",
        what="the stalled import to go on",
        timeout_seconds=SECONDS + 60,
    )
    assert slow_ones.disks("stalls") == [(1, 1), (2, 1)]
    (line,) = (line for line in slow_ones.log("stalls") if line["event"] == "transfer interrupted")
    assert "no byte for 60 s" in line["error"]


def source_path(own: Tenancy) -> str:
    return f"{PATH}/{own.namespace}/vmwaresources/vcenter"


def patch_source(own: Tenancy, patch: dict[str, Any], subresource: str = "") -> None:
    own.scene.control_plane.api.merge(source_path(own) + subresource, patch)
