"""An import switches off, reads and switches on again what Preflight has looked at, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller.api import names
from tests.e2e.tenants import SECONDS, SLOWLY, Tenancy, wait_for_reason
from tests.lab.processes import wait_until
from tests.lab.scene import PORT_GROUP, Scene, import_path, vmware_source
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import Disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

VMS = "/apis/kubevirt.io/v1/namespaces"


@pytest.fixture
def tenancy(scene: Scene, tenant: str) -> Iterator[Tenancy]:
    with Tenancy.of(scene, tenant) as tenancy:
        yield tenancy


@pytest.fixture
def stranger(scene: Scene, tenant: str) -> Iterator[VCenter]:
    """Another vCenter, whose machines have the identifiers of the first one's, as those of real ones do."""
    with VCenter() as vcenter:
        vcenter.add_network(PORT_GROUP)  # as the first one has; identifiers are numbered through
        scene.control_plane.apply(vmware_source(vcenter, tenant, name="stranger"))
        wait_for_reason(scene, tenant, "Verified", name="stranger")
        yield vcenter
        scene.control_plane.kubectl("delete", "vmwaresource", "stranger", "-n", tenant)


def edit(tenancy: Tenancy, name: str, spec: dict[str, Any]) -> None:
    tenancy.scene.control_plane.api.merge(import_path(tenancy.namespace, name), {"spec": spec})


def start_again(tenancy: Tenancy, name: str) -> None:
    path = f"{import_path(tenancy.namespace, name)}/status"
    tenancy.scene.control_plane.api.merge(path, {"status": {"importStatus": ""}})


def reach(tenancy: Tenancy, name: str, phase: str) -> None:
    tenancy.scene.wait_for_phase(name, phase, namespace=tenancy.namespace)


def power(tenancy: Tenancy, name: str) -> str:
    return str(tenancy.vcenter.state().vm(name).power_state)


def wait_for_power(tenancy: Tenancy, name: str, state: str) -> None:
    wait_until(lambda: power(tenancy, name) == state, what=f"{name} to be {state}", timeout_seconds=SECONDS)


def namesake(tenancy: Tenancy, stranger: VCenter) -> str:
    """Give the other vCenter a running machine that bears the identifier of ours; return its name."""
    made = stranger.add_vm("bystander", power_state="on")
    assert made.moref == tenancy.vcenter.state().vm("web").moref
    return made.name


def delete(tenancy: Tenancy, name: str) -> None:
    tenancy.scene.control_plane.kubectl("delete", "vmimport", name, "-n", tenancy.namespace, "--timeout=120s")


def test_an_edit_in_the_middle_does_not_turn_an_import_to_a_machine_of_another_source(
    tenancy: Tenancy, stranger: VCenter
) -> None:
    tenancy.start_slowly("web")
    bystander = namesake(tenancy, stranger)
    edit(tenancy, "web", {"sourceCluster": {"name": "stranger"}})
    tenancy.vcenter.clear_faults()
    assert tenancy.ended("web")["phase"] == "Succeeded"
    untouched = stranger.state().vm(bystander)
    assert untouched.power_state == "poweredOn"
    assert not {"ShutdownGuest", "PowerOffVM_Task", "ExportVm"} & untouched.calls.keys()


def test_a_restart_that_is_to_import_another_machine_gives_the_first_its_power_back(tenancy: Tenancy) -> None:
    tenancy.start_slowly("web")
    tenancy.add_vm("cold", power_state="off")
    edit(tenancy, "web", {"virtualMachineName": "cold"})
    start_again(tenancy, "web")
    wait_for_power(tenancy, "web", "poweredOn")
    status = tenancy.ended("web")
    assert (status["phase"], status["sourcePowerState"]) == ("Succeeded", "PoweredOff")


def test_a_machine_that_was_off_before_is_not_switched_on_for_what_an_earlier_run_did_to_another(
    tenancy: Tenancy,
) -> None:
    tenancy.start_slowly("web")
    tenancy.add_vm("cold", power_state="off")
    tenancy.vcenter.fault("slow", vm="cold", **SLOWLY)
    edit(tenancy, "web", {"virtualMachineName": "cold"})
    start_again(tenancy, "web")
    wait_until(
        lambda: (
            tenancy.status("web").get("source", {}).get("virtualMachineName") == "cold"
            and tenancy.status("web").get("phase") == "Export"
        ),
        what="the other machine to be read",
        timeout_seconds=SECONDS,
    )
    delete(tenancy, "web")
    assert power(tenancy, "cold") == "poweredOff"
    assert power(tenancy, "web") == "poweredOn"


def test_a_restart_that_proves_invalid_gives_the_machine_its_power_back(tenancy: Tenancy) -> None:
    tenancy.start_slowly("web")
    edit(tenancy, "web", {"storageClass": "no-such-class"})
    start_again(tenancy, "web")
    assert tenancy.ended("web")["phase"] == "Invalid"
    assert power(tenancy, "web") == "poweredOn"


def test_an_import_that_is_deleted_while_it_waits_to_start_again_gives_the_power_back(
    tenancy: Tenancy,
) -> None:
    tenancy.start_slowly("web")
    edit_source = ("patch", "vmwaresource", "vcenter", "-n", tenancy.namespace, "--type=merge", "-p")
    tenancy.scene.control_plane.kubectl(*edit_source, '{"spec":{"dc":"Nowhere"}}')
    wait_for_reason(tenancy.scene, tenancy.namespace, "DatacenterNotFound")
    start_again(tenancy, "web")
    tenancy.wait_for("web", "SourceNotReady")
    assert power(tenancy, "web") == "poweredOff"
    delete(tenancy, "web")
    assert power(tenancy, "web") == "poweredOn"


def test_a_restart_leaves_the_source_off_when_its_successor_exists(tenancy: Tenancy) -> None:
    tenancy.add_vm("web")
    tenancy.start("web")
    assert tenancy.ended("web")["phase"] == "Succeeded"
    start_again(tenancy, "web")
    reach(tenancy, "web", "Invalid")
    assert power(tenancy, "web") == "poweredOff"


def test_deleting_an_import_whose_vm_is_refused_gives_the_source_its_power_back(tenancy: Tenancy) -> None:
    tenancy.add_vm("web")
    tenancy.scene.control_plane.apply([refusing_quota(tenancy.namespace)])
    tenancy.start("web", skipPreflightChecks=True)
    reach(tenancy, "web", "VMCreate")
    delete(tenancy, "web")
    assert power(tenancy, "web") == "poweredOn"


def refusing_quota(namespace: str) -> dict[str, Any]:
    """Return a quota that lets nobody make a VM."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-machines", "namespace": namespace},
        "spec": {"hard": {"count/virtualmachines.kubevirt.io": "0"}},
    }


def test_an_import_whose_machine_is_gone_from_the_source_can_be_deleted(tenancy: Tenancy) -> None:
    tenancy.start_slowly("web")
    tenancy.vcenter.remove_vm("web")
    delete(tenancy, "web")


def test_a_failed_import_that_was_cleaned_up_can_be_deleted_when_its_source_is_no_more(
    tenancy: Tenancy,
) -> None:
    tenancy.add_vm("web")
    tenancy.vcenter.fault("corrupt", vm="web", after_bytes=200_000, count=-1)
    tenancy.start("web")
    assert tenancy.ended("web")["phase"] == "Failed"
    wait_until(
        lambda: any(
            entry["type"] == "CleanedUp" and entry["status"] == "True"
            for entry in tenancy.status("web")["conditions"]
        ),
        what="everything to be put back",
        timeout_seconds=SECONDS,
    )
    tenancy.scene.control_plane.kubectl("delete", "secret", "vcenter-credentials", "-n", tenancy.namespace)
    delete(tenancy, "web")


def test_volumes_that_outlive_their_vm_are_not_cleaned_up_after_it(tenancy: Tenancy) -> None:
    guest = tenancy.scene.guest
    tenancy.add_vm("web", disks=[Disk(guest.data_size, guest.data_vmdk)])  # it does not boot
    tenancy.start("web", targetRunStrategy="RerunOnFailure")
    reach(tenancy, "web", "WaitForVM")
    api = tenancy.scene.control_plane.api
    api.delete(f"{VMS}/{tenancy.namespace}/virtualmachines/web")
    assert tenancy.ended("web")["phase"] == "Failed"
    delete(tenancy, "web")
    (claim,) = api.items(f"/api/v1/namespaces/{tenancy.namespace}/persistentvolumeclaims")
    assert names.LABEL_IMPORT_UID in claim["metadata"]["labels"]
    assert "deletionTimestamp" not in claim["metadata"]
