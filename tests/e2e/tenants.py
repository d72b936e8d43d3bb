"""What tests in a namespace of their own share: a source that gets ready, an import that takes its time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from tests.lab.processes import wait_until
from tests.lab.scene import API_VERSION, PORT_GROUP, Scene, import_path, vm_import, vmware_source
from tests.lab.vcenter import VCenter
from tests.lab.vcenter_model import VM, Disk

PATH = f"/apis/{API_VERSION}/namespaces"
SECONDS = 120
# Of a body: two of the pieces in which it is read, for some progress, and then minutes for what a test does.
SLOWLY: dict[str, Any] = {"after_bytes": 600_000, "bytes_per_second": 2_000, "count": -1}


def ready(
    scene: Scene, namespace: str, name: str = "vcenter", plural: str = "vmwaresources"
) -> dict[str, Any]:
    source = scene.control_plane.api.get(f"{PATH}/{namespace}/{plural}/{name}")
    entries = (source.get("status") or {}).get("conditions") or ()
    return dict(next((entry for entry in entries if entry["type"] == "Ready"), {}))


def wait_for_reason(scene: Scene, namespace: str, reason: str, **which: str) -> dict[str, Any]:
    wait_until(
        lambda: ready(scene, namespace, **which).get("reason") == reason,
        what=f"{reason} in {namespace}",
        timeout_seconds=SECONDS,
    )
    return ready(scene, namespace, **which)


def slow_import(scene: Scene, tenant: str) -> None:
    """Start an import whose export lasts until faults are cleared, and return in the middle of it."""
    scene.add_guest_vm(tenant)
    scene.vcenter.fault("slow", vm=tenant, **SLOWLY)
    spec: dict[str, Any] = {"networkMapping": [], "targetRunStrategy": "Halted"}
    scene.control_plane.apply([vm_import(tenant, "slow", tenant, **spec)])
    scene.wait_for_phase("slow", "Export", namespace=tenant)
    wait_until(
        lambda: scene.status("slow", tenant).get("progress", {}).get("percent", 0) > 0,
        what="some progress",
        timeout_seconds=SECONDS,
    )


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A namespace with a vCenter of its own, where anything may be broken, in the scene that all share."""

    scene: Scene
    vcenter: VCenter
    namespace: str

    @classmethod
    @contextlib.contextmanager
    def of(cls, scene: Scene, namespace: str) -> Iterator[Self]:
        """Make the vCenter and its source; when the source goes in the end, nothing may be left there."""
        with VCenter() as vcenter:
            vcenter.add_network(PORT_GROUP)
            scene.control_plane.apply(vmware_source(vcenter, namespace))
            wait_for_reason(scene, namespace, "Verified")
            yield cls(scene, vcenter, namespace)
            vcenter.clear_faults()
            scene.control_plane.kubectl("delete", "vmwaresource", "vcenter", "-n", namespace)
            wait_until(
                lambda: not (vcenter.state().sessions or vcenter.state().alive_leases),
                what="neither session nor lease at the vCenter",
                timeout_seconds=SECONDS,
            )

    def add_vm(self, name: str, **options: Any) -> VM:
        """Give the vCenter a running VM with the disks of the scene's guest."""
        guest = self.scene.guest
        disks = [Disk(guest.boot_size, guest.boot_vmdk), Disk(guest.data_size, guest.data_vmdk)]
        return self.vcenter.add_vm(name, **{"disks": disks, "power_state": "on", **options})

    def start(self, name: str, **spec: Any) -> None:
        """Apply the import of a VM under the VM's name; nothing boots."""
        wanted = {"networkMapping": [], "targetRunStrategy": "Halted", **spec}
        self.scene.control_plane.apply([vm_import(self.namespace, name, name, **wanted)])

    def start_slowly(self, name: str) -> None:
        """Make a VM, start its import, and return in the middle of its export; it lasts till faults end."""
        self.add_vm(name)
        self.vcenter.fault("slow", vm=name, **SLOWLY)
        self.start(name)
        wait_until(
            lambda: self.status(name).get("progress", {}).get("percent", 0) > 0,
            what=f"some progress of {name}",
            timeout_seconds=SECONDS,
        )

    def status(self, name: str) -> dict[str, Any]:
        return self.scene.status(name, self.namespace)

    def ended(self, name: str) -> dict[str, Any]:
        """Return the status of an import once it has come to an end."""
        return self.scene.wait_for_phase(name, "Succeeded", "Failed", "Invalid", namespace=self.namespace)

    def summary(self, name: str) -> dict[str, Any]:
        """Return the condition `Succeeded`."""
        entries = self.status(name).get("conditions") or ()
        return next((dict(entry) for entry in entries if entry["type"] == "Succeeded"), {})

    def wait_for(self, name: str, reason: str) -> dict[str, Any]:
        """Return the condition `Succeeded` once it has a reason."""
        wait_until(
            lambda: self.summary(name).get("reason") == reason,
            what=f"{reason} of {name}, which says {self.summary(name)}",
            timeout_seconds=SECONDS,
        )
        return self.summary(name)

    def events(self, name: str, *awaited: str) -> dict[str, str]:
        """Return the types of an import's Events by their reason, once the awaited have come, too."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        found: dict[str, str] = {}

        def told() -> bool:
            for event in self.scene.control_plane.api.items(path):
                about = event["involvedObject"]
                if about["name"] == name and about["kind"] != "VmwareSource":
                    found[event["reason"]] = event["type"]
            return found.keys() >= set(awaited)

        wait_until(told, what=f"{awaited} among the Events of {name}", timeout_seconds=SECONDS)
        return found

    def log(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of the controller's log that are about an import."""
        path = import_path(self.namespace, name)
        uid = self.scene.control_plane.api.get(path)["metadata"]["uid"]
        key = f"{self.namespace}/{name}"
        return [
            line for line in self.scene.controller.lines() if uid == line.get("uid") or key == line.get("key")
        ]

    def disks(self, name: str) -> list[tuple[int, int]]:
        """Return how often each disk was asked for, and how often it was sent to its end."""
        return [(disk.gets, disk.completed) for disk in self.vcenter.state().vm(name).disks]

    def calls(self, name: str) -> dict[str, int]:
        """Return the calls on the VM by method."""
        return self.vcenter.state().vm(name).calls
