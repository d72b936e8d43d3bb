"""The disks and network cards in a VM's device list, in our vocabulary. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from providers.model import DiskBus, NICModel, SourceDisk, SourceNIC
from providers.vmware import names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_device = vim.vm.device

# Prefix of a disk's key, as in .vmx files (`scsi0:1`), and the bus it gets (contract: a guest that has the
# driver of pvscsi, IDE or AHCI is sure to have AHCI's, not KubeVirt's virtio-scsi).
_CONTROLLERS = (
    (_device.ParaVirtualSCSIController, "scsi", DiskBus.SATA),
    (_device.VirtualSCSIController, "scsi", DiskBus.SCSI),
    (_device.VirtualIDEController, "ide", DiskBus.SATA),
    (_device.VirtualSATAController, "sata", DiskBus.SATA),
    (_device.VirtualNVMEController, "nvme", DiskBus.VIRTIO),
    (_device.VirtualUSBController, "usb", DiskBus.USB),
    (_device.VirtualUSBXHCIController, "usb", DiskBus.USB),
)

_NIC_MODELS = (
    (_device.VirtualE1000e, NICModel.E1000E),
    (_device.VirtualE1000, NICModel.E1000),
    (_device.VirtualPCNet32, NICModel.PCNET),
    (_device.VirtualVmxnet, NICModel.VIRTIO),
    (_device.VirtualSriovEthernetCard, NICModel.VIRTIO),
)

_RAW_DISKS = (
    _device.VirtualDisk.RawDiskMappingVer1BackingInfo,
    _device.VirtualDisk.RawDiskVer2BackingInfo,
    _device.VirtualDisk.PartitionedRawDiskVer2BackingInfo,
)


@dataclass(frozen=True, slots=True)
class Networks:
    """Names of the networks that network cards refer to by key only.

    Attributes:
        portgroups: Key of a distributed port group to its names, plain one first: `dvs_10`, `DSwitch/dvs_10`.
        opaque: Identifier of an opaque (NSX) network to its names.
    """

    portgroups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    opaque: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def disks(
    devices: Sequence[Any], boot_order: Sequence[Any], allocated_bytes: Mapping[int, int]
) -> tuple[SourceDisk, ...]:
    """Return the virtual disks: by kind of controller as the device list has them, then by bus and unit.

    Args:
        devices: `config.hardware.device`.
        boot_order: `config.bootOptions.bootOrder`. Disks that are not in it boot after those that are, in
            device order, as the BIOS does.
        allocated_bytes: What disks hold on their datastore, by device key.
    """
    controllers: dict[Any, Any] = {d.key: d for d in devices if isinstance(d, _device.VirtualController)}
    kinds = list(dict.fromkeys(_kind(c)[0] for c in controllers.values()))

    def slot(disk: Any) -> tuple[int, int, int]:
        if disk.controllerKey not in controllers:
            return len(kinds), 0, disk.unitNumber or 0
        on = controllers[disk.controllerKey]
        return kinds.index(_kind(on)[0]), on.busNumber, disk.unitNumber or 0

    found = sorted((d for d in devices if isinstance(d, _device.VirtualDisk)), key=slot)
    ranks = boot_ranks(boot_order, found)
    return tuple(
        _disk(d, controllers.get(d.controllerKey), ranks[d.key], allocated_bytes.get(d.key)) for d in found
    )


def boot_ranks(boot_order: Sequence[Any], disks_in_order: Sequence[Any]) -> dict[int, int]:
    """Return places in the boot order, from 1, by device key: of every disk and of listed network cards."""
    listed = [
        entry.deviceKey
        for entry in boot_order
        if isinstance(
            entry, vim.vm.BootOptions.BootableDiskDevice | vim.vm.BootOptions.BootableEthernetDevice
        )
    ]
    keys = dict.fromkeys([*listed, *(disk.key for disk in disks_in_order)])
    return {key: rank for rank, key in enumerate(keys, start=1)}


def nics(devices: Sequence[Any], boot_order: Sequence[Any], networks: Networks) -> tuple[SourceNIC, ...]:
    """Return the network cards in device order, which is the order in which guests see them."""
    cards = [d for d in devices if isinstance(d, _device.VirtualEthernetCard)]
    ranks = boot_ranks(boot_order, [])
    return tuple(
        SourceNIC(
            key=f"ethernet{index}",
            networks=_networks_of(card.backing, networks),
            model=next((model for kind, model in _NIC_MODELS if isinstance(card, kind)), None),
            mac=card.macAddress.lower() if card.macAddress else None,
            boot_order=ranks.get(card.key),
        )
        for index, card in enumerate(cards)
    )


def file_name(path: str) -> str:
    """Return `web.vmdk` of `[datastore1] web/web.vmdk`."""
    return path.rpartition("/")[2].rpartition("] ")[2]


def _disk(disk: Any, controller: Any, rank: int, allocated: int | None) -> SourceDisk:
    prefix, bus = _kind(controller)
    number = controller.busNumber if controller is not None else 0
    path = getattr(disk.backing, "fileName", None) or ""
    label = disk.deviceInfo.label if disk.deviceInfo else ""
    return SourceDisk(
        key=f"{prefix}{number}:{disk.unitNumber or 0}",
        name=file_name(path) or label or f"disk-{disk.key}",
        size_bytes=disk.capacityInBytes or (disk.capacityInKB or 0) * 1024,
        bus=bus,
        aliases=tuple(dict.fromkeys((f"disk-{disk.key}", *_file_aliases(disk.backing)))),
        handle=str(disk.key),
        boot_order=rank,
        unsupported=unsupported(disk, controller),
        allocated_bytes=allocated,
    )


def _kind(controller: Any) -> tuple[str, DiskBus | None]:
    """Return the prefix of the keys, and the bus, of the disks on a controller."""
    return next(
        ((prefix, bus) for kind, prefix, bus in _CONTROLLERS if isinstance(controller, kind)), ("disk", None)
    )


def _file_aliases(backing: Any) -> list[str]:
    """Return base names and paths of the disk's file and of those it is a snapshot of (users know these)."""
    aliases: list[str] = []
    while backing is not None and getattr(backing, "fileName", None):
        aliases += [file_name(backing.fileName), backing.fileName]
        backing = getattr(backing, "parent", None)
    return aliases


def unsupported(disk: Any, controller: Any) -> str | None:
    """Return why an export does not contain the disk as the guest sees it; `None` when it does."""
    backing = disk.backing
    if isinstance(backing, _RAW_DISKS):
        mode = getattr(backing, "compatibilityMode", None)
        return f"RDM ({mode})" if mode else "RDM"
    if getattr(backing, "sharing", None) not in {None, "sharingNone"}:
        return "multi-writer"
    if getattr(controller, "sharedBus", None) not in {None, "noSharing"}:
        return f"bus sharing ({controller.sharedBus})"
    if (getattr(backing, "diskMode", None) or "").startswith("independent"):
        return backing.diskMode.replace("_", " ")  # type: ignore[no-any-return]
    if getattr(backing, "keyId", None) is not None:
        return "encrypted"
    return None


def _networks_of(backing: Any, networks: Networks) -> tuple[str, ...]:
    card = _device.VirtualEthernetCard
    if isinstance(backing, card.DistributedVirtualPortBackingInfo):
        key = (backing.port.portgroupKey if backing.port else None) or ""
        return networks.portgroups.get(key, (key,) if key else ())
    if isinstance(backing, card.OpaqueNetworkBackingInfo):
        identifier = backing.opaqueNetworkId or ""
        return networks.opaque.get(identifier, (identifier,) if identifier else ())
    name = getattr(backing, "deviceName", None)
    return network_names(name) if name else ()


def network_names(stored: str, switch: str = "") -> tuple[str, ...]:
    """Return every name by which people may call a network, the plain one first."""
    plain = tuple(dict.fromkeys((names.shown(stored), stored)))
    return plain + (tuple(f"{names.shown(switch)}/{name}" for name in plain) if switch else ())
