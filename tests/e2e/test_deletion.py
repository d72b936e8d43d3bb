"""Imports that are deleted: at once when nothing was touched, and else not before all is put back."""

from __future__ import annotations

import pytest

from controller.api import names
from tests.e2e.tenants import SECONDS, slow_import, wait_for_reason
from tests.lab.processes import wait_until
from tests.lab.scene import Scene, import_path, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def finalizers(scene: Scene, namespace: str, name: str) -> list[str]:
    found = scene.control_plane.api.get(import_path(namespace, name))["metadata"].get("finalizers") or []
    return list(found)


def images_of(scene: Scene, namespace: str) -> list[str]:
    path = f"/apis/harvesterhci.io/v1beta1/namespaces/{namespace}/virtualmachineimages"
    return [item["metadata"]["name"] for item in scene.control_plane.api.items(path)]


def test_what_only_waits_holds_nobody_up_who_deletes_it(scene: Scene, tenant: str) -> None:
    scene.control_plane.apply([vm_import(tenant, "waiting", "some-vm", source="missing")])
    wait_until(
        lambda: scene.status("waiting", tenant).get("phase") == "Preflight",
        what="the import to have been seen",
        timeout_seconds=SECONDS,
    )
    assert finalizers(scene, tenant, "waiting") == []
    scene.control_plane.kubectl("delete", "vmimport", "waiting", "-n", tenant, "--timeout=120s")


def test_what_is_invalid_holds_nobody_up_either(scene: Scene, tenant: str) -> None:
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant))
    scene.control_plane.apply([vm_import(tenant, "wrong", "no-such-vm")])
    scene.wait_for_phase("wrong", "Invalid", namespace=tenant)
    assert finalizers(scene, tenant, "wrong") == []


def test_deleting_an_import_in_the_middle_of_its_export_puts_everything_back(
    scene: Scene, tenant: str
) -> None:
    uid = exporting(scene, tenant)
    assert finalizers(scene, tenant, "slow") == [names.FINALIZER]
    scene.control_plane.kubectl("delete", "vmimport", "slow", "-n", tenant, "--timeout=120s")
    scene.vcenter.clear_faults()
    assert is_as_before(scene, tenant, uid)


def test_an_import_whose_finalizer_is_taken_off_by_force_is_put_back_all_the_same(
    scene: Scene, tenant: str
) -> None:
    uid = exporting(scene, tenant)
    patch = '{"metadata":{"finalizers":null}}'
    scene.control_plane.kubectl("patch", "vmimport", "slow", "-n", tenant, "--type=merge", "-p", patch)
    scene.control_plane.kubectl("delete", "vmimport", "slow", "-n", tenant, "--timeout=120s")
    wait_until(
        lambda: is_as_before(scene, tenant, uid),
        what="source, scratch and cluster as they were",
        timeout_seconds=SECONDS,
    )
    scene.vcenter.clear_faults()


def exporting(scene: Scene, tenant: str) -> str:
    """Return the UID of an import in the middle of its export."""
    scene.control_plane.apply(vmware_source(scene.vcenter, tenant))
    wait_for_reason(scene, tenant, "Verified")
    slow_import(scene, tenant)
    uid = str(scene.control_plane.api.get(import_path(tenant, "slow"))["metadata"]["uid"])
    assert (scene.controller.scratch / uid).exists()
    return uid


def is_as_before(scene: Scene, tenant: str, uid: str) -> bool:
    state = scene.vcenter.state()
    return (
        state.vm(tenant).power_state == "poweredOn"
        and not [lease for lease in state.alive_leases if lease.vm == tenant]
        and not (scene.controller.scratch / uid).exists()
        and not images_of(scene, tenant)
    )
