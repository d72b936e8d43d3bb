"""VirtualMachines as they are made of the machines in `providers.vmware.machines`."""

from __future__ import annotations

from typing import Any

from controller import builders
from controller.phases.preflight.machine import chosen_disks
from providers.vmware.machine import to_source_vm
from tests.unit.objects import an_import
from tests.unit.providers.vmware.machines import MACHINES, NETWORKS

SPEC = {
    "networkMapping": [
        {"sourceNetwork": "VM Network", "destinationNetwork": "vlan1"},
        {"sourceNetwork": "DSwitch/dvs_10", "destinationNetwork": "shared/vlan10"},
        {"sourceNetwork": "nsx-web", "destinationNetwork": "mgmt"},
    ]
}
BUILT = tuple(name for name in MACHINES if name not in ("inaccessible", "without_disks"))


def build(name: str) -> dict[str, Any]:
    """Return the VirtualMachine of a machine, its disks imported in the order that Preflight chooses."""
    vm = to_source_vm("vm-7", MACHINES[name](), NETWORKS)
    vmimport = an_import(
        SPEC, {"importedVirtualMachineName": builders.target_name(vm.name), "runID": "abc123"}
    )
    disks = [
        {
            "sourceDisk": disk.key,
            "busType": builders.disk_bus(vmimport, disk),
            "VirtualMachineImage": builders.image_name(vmimport, index),
        }
        for index, disk in enumerate(chosen_disks(vmimport, vm))
    ]
    return builders.build_virtual_machine(vmimport, vm, disks)
