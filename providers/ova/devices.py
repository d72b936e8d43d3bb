"""The disks and network cards among the hardware items, in our vocabulary. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.errors import DescriptorInvalid
from providers.model import DiskBus, NICModel, SourceNIC
from providers.ova import items

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from providers.ova.descriptor import Disk, Package
    from providers.ova.items import Item

# Words in a controller's subtype, prefix of its disks' keys, the bus they get; the first that fits counts.
# The rule is that of VMware sources: a guest with the driver of pvscsi, IDE or AHCI is sure to have AHCI's,
# and one that knows virtio devices keeps them. Subtypes: VMware's (`VirtualSCSI` is pvscsi), VirtualBox's
# (`PIIX4`, `lsilogicsas`), those of KVM's managers, and Hyper-V's long ones.
_CONTROLLERS = (
    (("nvme",), "nvme", DiskBus.VIRTIO),
    (("ahci", "sata"), "sata", DiskBus.SATA),
    (("piix", "ich6", "ide"), "ide", DiskBus.SATA),
    (("virtio-scsi", "virtio_scsi", "virtioscsi"), "scsi", DiskBus.SCSI),
    (("virtio",), "virtio", DiskBus.VIRTIO),
    (("virtualscsi", "pvscsi", "hyper-v"), "scsi", DiskBus.SATA),
    (("lsi", "buslogic"), "scsi", DiskBus.SCSI),
    (("usb", "hci"), "usb", DiskBus.USB),
)
_BY_TYPE = {
    items.IDE: ("ide", DiskBus.SATA),
    items.SCSI: ("scsi", DiskBus.SCSI),
    items.OTHER_STORAGE: ("sata", DiskBus.SATA),
    items.USB: ("usb", DiskBus.USB),
}
# Words in a card's subtype; it may list several models, the preferred one first. Digits: oVirt's.
_NIC_MODELS = (
    (("e1000e", "82574l"), NICModel.E1000E),
    (("e1000", "82540em", "82543gc", "82545em", "2"), NICModel.E1000),
    (("pcnet32", "pcnet", "am79c970a", "am79c973", "flexible"), NICModel.PCNET),
    (("vmxnet", "vmxnet2", "vmxnet3", "virtio", "virtio-net", "sriov", "3"), NICModel.VIRTIO),
    (("rtl8139", "1"), NICModel.RTL8139),
    (("ne2k_pci", "ne2000"), NICModel.NE2K_PCI),
)
_MAC = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk at its place in the machine.

    Attributes:
        key: `scsi0:1`.
        item: The hardware item of it.
        disk: The entry of the disk section it holds.
    """

    key: str
    bus: DiskBus | None
    item: Item
    disk: Disk


def drives(rows: Sequence[Item], package: Package) -> tuple[Drive, ...]:
    """Return the disks by kind of controller as the rows have them, then by controller and place.

    Raises:
        DescriptorInvalid: a row refers to a disk that is not there, or two have one place.
    """
    controllers = {row.id: row for row in rows if row.type in items.CONTROLLERS}
    numbers = _numbers(controllers)
    kinds = list(dict.fromkeys(_kind(row)[0] for row in controllers.values()))
    found: list[tuple[tuple[int, int, int], Drive]] = []
    for row in rows:
        disk = _disk_of(row, package)
        if disk is None:
            continue
        controller = controllers.get(row.get("Parent"))
        prefix, bus = _kind(controller) if controller else _by_interface(disk.interface)
        number = numbers[controller.id] if controller else 0
        taken = sum(
            1 for (_, at, _), drive in found if drive.key.startswith(f"{prefix}{number}:") and at == number
        )
        place = row.number("AddressOnParent")
        unit = place if place is not None else taken
        rank = kinds.index(prefix) if prefix in kinds else len(kinds)
        found.append(((rank, number, unit), Drive(f"{prefix}{number}:{unit}", bus, row, disk)))
    found.sort(key=lambda entry: entry[0])
    keys = [drive.key for _, drive in found]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise DescriptorInvalid(f"two disks are at {twice}")
    return tuple(drive for _, drive in found)


def _numbers(controllers: Mapping[str, Item]) -> dict[str, int]:
    """Return the number of each controller among those of its kind: its address, or its place in the rows."""
    numbers: dict[str, int] = {}
    taken: set[tuple[str, int]] = set()
    for identifier, row in controllers.items():
        prefix = _kind(row)[0]
        number = row.number("Address")
        if number is None or (prefix, number) in taken:
            number = next(n for n in range(len(controllers)) if (prefix, n) not in taken)
        taken.add((prefix, number))
        numbers[identifier] = number
    return numbers


def _kind(controller: Item) -> tuple[str, DiskBus | None]:
    for words, prefix, bus in _CONTROLLERS:
        if any(word in controller.subtype for word in words):
            return prefix, bus
    return _BY_TYPE[controller.type]


def _by_interface(interface: str) -> tuple[str, DiskBus | None]:
    """Return what oVirt's `disk-interface` means; it writes no controllers."""
    known: dict[str, tuple[str, DiskBus | None]] = {
        "virtio": ("virtio", DiskBus.VIRTIO),
        "virtio_scsi": ("scsi", DiskBus.SCSI),
        "ide": ("ide", DiskBus.SATA),
        "sata": ("sata", DiskBus.SATA),
    }
    return known.get(interface.lower(), ("disk", None))


def _disk_of(row: Item, package: Package) -> Disk | None:
    """Return the disk that a row holds: `ovf:/disk/ID`, `ovf://disk/ID`, `/disk/ID`; oVirt: the file name."""
    if row.type not in (items.DISK, items.LOGICAL_DISK):
        return None
    resource = row.get("HostResource")
    if not resource:
        return None  # a drive without a disk in it
    identifier = resource.removeprefix("ovf:").lstrip("/").removeprefix("disk/")
    if identifier in package.disks:
        return package.disks[identifier]
    for disk in package.disks.values():
        if disk.file is not None and disk.file.href == resource:
            return disk
    raise DescriptorInvalid(f"{row.label} refers to disk {resource!r}, which DiskSection does not have")


def nics(rows: Sequence[Item], macs: Sequence[str]) -> tuple[SourceNIC, ...]:
    """Return the network cards in the order of the rows.

    Args:
        rows: The hardware items.
        macs: Addresses that a vendor's section tells, in the same order; used where the row itself has none.
    """
    cards = [row for row in rows if row.type in (items.ETHERNET, items.ETHERNET_PORT)]
    return tuple(
        SourceNIC(
            key=f"ethernet{index}",
            networks=(network,) if (network := row.get("Connection") or row.get("Network")) else (),
            model=_model(row.subtype),
            mac=_mac(row.get("Address") or row.get("MACAddress"))
            or _mac(macs[index] if index < len(macs) else ""),
        )
        for index, row in enumerate(cards)
    )


def _model(subtype: str) -> NICModel | None:
    for word in subtype.replace(",", " ").split():
        for words, model in _NIC_MODELS:
            if word in words:
                return model
    return None


def _mac(text: str) -> str | None:
    """Return an address as `00:50:56:aa:bb:cc`; `None` for none, a group address, or all zeros."""
    plain = re.sub("[:.-]", "", text.strip().lower())
    if not _MAC.fullmatch(plain) or int(plain[:2], 16) & 1 or not int(plain, 16):
        return None
    return ":".join(plain[at : at + 2] for at in range(0, 12, 2))
