"""The chart's rights against what the controller, running as the chart's ServiceAccount, asks for.

That nothing is missing, the scene that all end-to-end tests share checks over all of them; here is what needs
each right at least once, so that one which nothing needs is found.
"""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import names
from tests.e2e.rights import Right, asked_for, granted
from tests.e2e.tenants import PATH, SECONDS
from tests.lab import crds
from tests.lab.processes import wait_until
from tests.lab.scene import VLAN, Scene, import_path, vm_import, vmware_source

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MAC = "00:50:56:77:77:77"
EVENT_COUNTED_UP = Right("", "events", "patch")
HALTED: dict[str, Any] = {"targetRunStrategy": "Halted"}


def source(tenant: str, kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {"name": "unused", "namespace": tenant},
        "spec": {"credentials": {"name": "none", "namespace": tenant}, **spec},
    }


def reason(scene: Scene, tenant: str, name: str) -> str:
    entries = scene.status(name, tenant).get("conditions") or ()
    return str(next((entry["reason"] for entry in entries if entry["type"] == "Succeeded"), ""))


def test_every_right_of_the_chart_is_used_and_none_is_missing(scene: Scene, tenant: str) -> None:
    apply = scene.control_plane.apply
    apply([*vmware_source(scene.vcenter, tenant), crds.network_attachment(tenant, VLAN)])
    apply([source(tenant, "OpenstackSource", endpoint="https://127.0.0.1:1/v3", region="R")])
    apply([source(tenant, "OvaSource", url="http://127.0.0.1:1/a.ova")])
    scene.add_guest_vm(f"{tenant}-a", mac=MAC)
    scene.add_guest_vm(f"{tenant}-b", mac=MAC)

    # A whole import to a named class; then one to the default class whose VM is refused, and which is deleted
    # with its images and volumes.
    apply([vm_import(tenant, "a", f"{tenant}-a", storageClass=crds.DEFAULT_STORAGE_CLASS, **HALTED)])
    scene.wait_for_phase("a", "Succeeded", namespace=tenant)
    apply([vm_import(tenant, "b", f"{tenant}-b", skipPreflightChecks=True, **HALTED)])
    # An import that is invalid for the same reason twice: the second Event counts up the first.
    apply([vm_import(tenant, "c", "no-such-vm")])
    scene.wait_for_phase("c", "Invalid", namespace=tenant)
    scene.control_plane.api.merge(import_path(tenant, "c"), {"spec": {"folder": ""}})
    scene.control_plane.api.merge(f"{import_path(tenant, 'c')}/status", {"status": {"importStatus": ""}})

    scene.wait_for_phase("b", "VMCreate", namespace=tenant)
    wait_until(
        lambda: reason(scene, tenant, "b") == "VirtualMachineRefused",
        what="the second VM with the same MAC address to be refused",
        timeout_seconds=SECONDS,
    )
    scene.control_plane.kubectl("delete", "vmimport", "b", "-n", tenant, "--timeout=120s")
    sources = [f"{PATH}/{tenant}/{plural}/unused" for plural in ("openstacksources", "ovasources")]
    wait_until(
        lambda: all("status" in scene.control_plane.api.get(path) for path in sources),
        what="a verdict on each source",
        timeout_seconds=SECONDS,
    )
    wait_until(
        lambda: EVENT_COUNTED_UP in asked_for(scene.control_plane, refused=False),
        what="an Event to be counted up",
        timeout_seconds=SECONDS,
    )
    assert granted() - asked_for(scene.control_plane, refused=False) == set(), "unused"
    assert asked_for(scene.control_plane, refused=False) - granted() == set(), "granted by somebody else"
    assert asked_for(scene.control_plane, refused=True) == set(), "missing"
