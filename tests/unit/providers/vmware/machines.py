"""Machines as servers describe them, by the name of the golden file that says what they are to us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from providers.vmware.devices import Networks
from tests.unit.providers.vmware.hardware import (
    boot,
    boot_cdrom,
    boot_disk,
    boot_nic,
    controller,
    device,
    disk,
    distributed,
    flat,
    nic,
    opaque,
    properties,
    rdm,
    standard,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30
NETWORKS = Networks(
    portgroups={"dvportgroup-12": ("dvs_10", "DSwitch/dvs_10"), "dvportgroup-13": ("a/b", "a%2fb")},
    opaque={"seg-1": ("nsx-web",)},
)


def bios_pvscsi() -> dict[str, Any]:
    """Return the most common shape there is."""
    devices = [
        controller("ide", 200),
        controller("ide", 201, 1),
        controller("pvscsi", 1000),
        disk(2000, 1000, 0, flat("[ds 1] web/web.vmdk"), 16 * GIB),
        nic("vmxnet3", 4000, standard("VM Network")),
    ]
    return properties(devices, config__annotation="the shop\nask Ann")


def windows_efi_secure_tpm() -> dict[str, Any]:
    devices = [
        controller("lsisas", 1000),
        disk(2000, 1000, 0, flat("[ds] win/win.vmdk"), 64 * GIB),
        nic("e1000e", 4000, distributed("dvportgroup-12")),
        device.VirtualTPM(key=11000),
        device.VirtualCdrom(
            key=3000,
            controllerKey=200,
            backing=device.VirtualCdrom.IsoBackingInfo(fileName="[iso] drivers/virtio-win.iso"),
            connectable=device.VirtualDevice.ConnectInfo(connected=True, startConnected=True),
        ),
    ]
    return properties(
        devices,
        config__firmware="efi",
        config__bootOptions=boot(secure=True),
        config__guestId="windows2019srv_64Guest",
        config__hardware__numCPU=8,
        config__hardware__memoryMB=16384,
        config__keyId=vim.encryption.CryptoKeyId(keyId="k"),
        guest__toolsRunningStatus="guestToolsRunning",
        runtime__powerState=vim.VirtualMachine.PowerState.poweredOn,
    )


def every_bus() -> dict[str, Any]:
    """Return a VM with one disk on each kind of controller; device lists are not sorted by unit."""
    devices = [
        controller("ide", 201, 1),
        controller("buslogic", 1001, 1),
        controller("lsilogic", 1002, 2),
        controller("pvscsi", 1000),
        controller("ahci", 15000),
        controller("nvme", 31000),
        controller("usb", 14000),
        disk(2001, 1000, 1, flat("[ds] m/m_1.vmdk")),
        disk(2000, 1000, 0, flat("[ds] m/m.vmdk")),
        disk(3002, 201, 1, flat("[ds] m/ide.vmdk")),
        disk(2016, 1001, 0, flat("[ds] m/bus.vmdk")),
        disk(2032, 1002, 3, flat("[ds] m/lsi.vmdk")),
        disk(16000, 15000, 0, flat("[ds] m/sata.vmdk")),
        disk(32000, 31000, 0, flat("[ds] m/nvme.vmdk")),
        disk(14500, 14000, 0, flat("[ds] m/usb.vmdk")),
        disk(9000, 999, 0, flat("[ds] m/adrift.vmdk")),
    ]
    return properties(devices)


def explicit_boot_order() -> dict[str, Any]:
    devices = [
        controller("pvscsi", 1000),
        disk(2000, 1000, 0, flat("[ds] m/data.vmdk")),
        disk(2001, 1000, 1, flat("[ds] m/system.vmdk")),
        disk(2002, 1000, 2, flat("[ds] m/more.vmdk")),
        nic("vmxnet3", 4000, standard("VM Network")),
        nic("vmxnet3", 4001, standard("PXE"), "00:50:56:AA:BB:02"),
    ]
    order = boot(boot_cdrom(), boot_nic(4001), boot_disk(2001))
    return properties(devices, config__bootOptions=order)


def every_network_card() -> dict[str, Any]:
    backings = [
        standard("VM Network"),
        standard("VLAN%2f10"),
        distributed("dvportgroup-12"),
        distributed("dvportgroup-13"),
        distributed("dvportgroup-99"),
        opaque("seg-1"),
        standard("VM Network"),
        standard("VM Network"),
    ]
    kinds = ["e1000", "e1000e", "pcnet32", "vmxnet", "vmxnet2", "vmxnet3", "sriov", "unknown"]
    cards = [
        nic(kind, 4000 + i, backing, f"00:50:56:AA:BB:{i:02X}")
        for i, (kind, backing) in enumerate(zip(kinds, backings, strict=True))
    ]
    return properties([controller("pvscsi", 1000), disk(2000, 1000, 0, flat("[ds] m/m.vmdk")), *cards])


def undeliverable_disks() -> dict[str, Any]:
    key = vim.encryption.CryptoKeyId(keyId="k")
    devices = [
        controller("pvscsi", 1000),
        controller("lsilogic", 1001, 1, sharedBus="physicalSharing"),
        disk(2000, 1000, 0, flat("[ds] m/good.vmdk")),
        disk(2001, 1000, 1, rdm("[ds] m/rdm.vmdk")),
        disk(2002, 1000, 2, rdm("[ds] m/rdmp.vmdk", "virtualMode")),
        disk(2003, 1000, 3, flat("[ds] m/shared.vmdk", sharing="sharingMultiWriter")),
        disk(2004, 1000, 4, flat("[ds] m/indep.vmdk", mode="independent_persistent")),
        disk(2005, 1000, 5, flat("[ds] m/indepn.vmdk", mode="independent_nonpersistent")),
        disk(2006, 1000, 6, flat("[ds] m/enc.vmdk", keyId=key)),
        disk(2016, 1001, 0, flat("[ds] m/cluster.vmdk")),
    ]
    return properties(devices)


def with_snapshots() -> dict[str, Any]:
    tree = vim.vm.SnapshotTree
    base = flat("[ds] m/m.vmdk")
    devices = [
        controller("pvscsi", 1000),
        disk(2000, 1000, 0, flat("[ds] m/m-000001.vmdk", parent=base), 4 * GIB),
    ]
    layout = vim.vm.FileLayoutEx
    files = [
        layout.FileInfo(key=1, name="[ds] m/m.vmdk", type="diskDescriptor", size=500),
        layout.FileInfo(key=2, name="[ds] m/m-flat.vmdk", type="diskExtent", size=GIB),
        layout.FileInfo(key=3, name="[ds] m/m-000001.vmdk", type="diskDescriptor", size=400),
        layout.FileInfo(key=4, name="[ds] m/m.nvram", type="nvram", size=9999),
    ]
    chain = [layout.DiskUnit(fileKey=[1, 2]), layout.DiskUnit(fileKey=[3])]
    return properties(
        devices,
        snapshot=vim.vm.SnapshotInfo(rootSnapshotList=[tree(name="a", childSnapshotList=[tree(name="b")])]),
        runtime__consolidationNeeded=True,
        layoutEx__file=files,
        layoutEx__disk=[layout.DiskLayout(key=2000, chain=chain)],
    )


def everything_in_the_way() -> dict[str, Any]:
    """Return a VM of which nearly all that can be said is to be said."""
    label = vim.Description(label="PCI device 0", summary="")
    devices = [
        controller("pvscsi", 1000),
        disk(2000, 1000, 0, flat("[ds] m/m.vmdk")),
        device.VirtualPCIPassthrough(key=13000, deviceInfo=label),
        device.VirtualUSB(key=7000),
        nic("sriov", 4000, standard("VM Network")),
        device.VirtualFloppy(
            key=8000,
            backing=device.VirtualFloppy.ImageBackingInfo(fileName="[ds] a.flp"),
            connectable=device.VirtualDevice.ConnectInfo(connected=False, startConnected=True),
        ),
    ]
    return properties(
        devices,
        config__template=True,
        config__ftInfo=vim.vm.FaultToleranceConfigInfo(role=1),
        config__cpuHotAddEnabled=True,
        config__memoryHotAddEnabled=True,
        runtime__powerState=vim.VirtualMachine.PowerState.suspended,
        runtime__question=vim.vm.QuestionInfo(id="1", text="Did you move it,\n or copy it?"),
    )


def without_disks() -> dict[str, Any]:
    return properties([controller("pvscsi", 1000)])


def inaccessible() -> dict[str, Any]:
    """Return what vCenter says of a VM whose datastore is gone: hardly anything is set."""
    return {
        "name": "lost%2ffound %25",
        "runtime.connectionState": vim.VirtualMachine.ConnectionState.inaccessible,
        "runtime.powerState": vim.VirtualMachine.PowerState.poweredOff,
    }


def sixty_disks() -> dict[str, Any]:
    """Return a VM with four controllers of fifteen disks each: unit 7 is the controller's own."""
    units = [unit for unit in range(16) if unit != 7]
    devices = [controller("pvscsi", 1000 + bus, bus) for bus in range(4)]
    devices += [
        disk(2000 + 16 * bus + unit, 1000 + bus, unit, flat(f"[ds] m/m_{bus}_{unit}.vmdk"))
        for bus in range(4)
        for unit in units
    ]
    return properties([*devices, nic("vmxnet3", 4000, standard("VM Network"))], config__hardware__numCPU=32)


def eight_sockets_of_one_core() -> dict[str, Any]:
    return _with_cpus(8, 1)


def four_sockets_of_two_cores() -> dict[str, Any]:
    return _with_cpus(8, 2)


def one_socket_of_eight_cores() -> dict[str, Any]:
    return _with_cpus(8, 8)


def _with_cpus(total: int, cores_per_socket: int) -> dict[str, Any]:
    """Return a VM as `numCPU` counts it: all cores of all sockets (vSphere API, VirtualHardware)."""
    devices = [controller("lsilogic", 1000), disk(2000, 1000, 0, flat("[ds] m/m.vmdk"))]
    return properties(
        devices, config__hardware__numCPU=total, config__hardware__numCoresPerSocket=cores_per_socket
    )


def old_ide_machine() -> dict[str, Any]:
    """Return what was built for ESX 3: IDE disks, a PCNet card, guest and annotation of that time."""
    devices = [
        controller("ide", 200),
        controller("ide", 201, 1),
        disk(3001, 200, 1, flat("[old] xp/xp_1.vmdk"), 1536 << 20),
        disk(3000, 200, 0, flat("[old] xp/xp.vmdk"), 10 * GIB),
        nic("pcnet32", 4000, standard("LAN"), "00:0C:29:AA:BB:01"),
    ]
    return properties(
        devices,
        config__guestId="winXPProGuest",
        config__hardware__numCPU=1,
        config__hardware__memoryMB=500,
        config__annotation="",
    )


def efi_on_nvme() -> dict[str, Any]:
    devices = [
        controller("nvme", 31000),
        disk(32001, 31000, 1, flat("[vsan] 5e/data.vmdk"), 3 << 40),
        disk(32000, 31000, 0, flat("[vsan] 5e/root.vmdk"), 20 * GIB),
        nic("vmxnet3", 4000, opaque("seg-1")),
    ]
    return properties(devices, config__firmware="efi", config__guestId="rhel9_64Guest")


def efi_on_sata_with_secure_boot() -> dict[str, Any]:
    devices = [
        controller("ahci", 15000),
        disk(16000, 15000, 0, flat("[ds] sles/sles.vmdk"), 40 * GIB),
        nic("e1000e", 4000, distributed("dvportgroup-13")),
    ]
    return properties(
        devices,
        config__firmware="efi",
        config__bootOptions=boot(secure=True),
        config__guestId="sles15_64Guest",
    )


def boots_from_the_network() -> dict[str, Any]:
    devices = [
        controller("pvscsi", 1000),
        disk(2000, 1000, 0, flat("[ds] m/m.vmdk")),
        nic("vmxnet3", 4000, standard("PXE"), "00:50:56:AA:BB:01"),
        nic("vmxnet3", 4001, standard("VM Network"), "00:50:56:AA:BB:02"),
    ]
    return properties(devices, config__bootOptions=boot(boot_nic(4000), boot_disk(2000)))


MACHINES: dict[str, Callable[[], dict[str, Any]]] = {
    machine.__name__: machine
    for machine in (
        bios_pvscsi,
        windows_efi_secure_tpm,
        every_bus,
        explicit_boot_order,
        every_network_card,
        undeliverable_disks,
        with_snapshots,
        everything_in_the_way,
        without_disks,
        inaccessible,
        sixty_disks,
        eight_sockets_of_one_core,
        four_sockets_of_two_cores,
        one_socket_of_eight_cores,
        old_ide_machine,
        efi_on_nvme,
        efi_on_sata_with_secure_boot,
        boots_from_the_network,
    )
}
