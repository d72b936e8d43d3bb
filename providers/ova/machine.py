"""From an OVF descriptor to a `SourceVM`. Pure: elements in, frozen data out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.errors import DescriptorInvalid
from providers.model import Finding, Firmware, PowerState, Severity, SourceDisk, SourceVM
from providers.ova import devices, guests, items, units, vendors
from providers.ova.descriptor import MAX_LISTED, MAX_SHOWN
from providers.ova.xmltree import attribute, child, children, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree.ElementTree import Element

    from providers.ova.descriptor import Disk, Package, System
    from providers.ova.devices import Drive
    from providers.ova.items import Item

_MIB = 1 << 20
_MAX_CPUS = 4096
_MAX_ANNOTATION = 32 * 1024  # characters; annotations of an object may have 256 KiB in all
# Ends of names that leave no doubt, and words in the URIs of formats (DSP0243 9.1 names only VMware's; the
# others are those of qemu, VirtualBox, Microsoft, oVirt and IBM). The name comes first: many writers put
# VMware's URI whatever the file is.
_BY_NAME = (
    (".vmdk", "vmdk"),
    (".qcow2", "qcow2"),
    (".vhdx", "vhdx"),
    (".vhd", "vpc"),
    (".vdi", "vdi"),
    (".raw", "raw"),
)
_BY_URI = (
    ("vmdk", "vmdk"),
    ("qcow", "qcow2"),
    ("vhdx", "vhdx"),
    ("vhd", "vpc"),
    ("bb676673", "vpc"),  # technet's page about VHD: VirtualBox and Microsoft
    ("137171", "vpc"),  # fwlink to the same: Microsoft and XenServer
    ("vdi", "vdi"),
    ("raw", "raw"),
    ("wikipedia.org/wiki/byte", "raw"),
)
_NOTHING_SAID = "installed guest operating system"  # what ovftool writes where it knows none
BLANK = "blank"
"""Format of a disk without a file; a word of `converters.formats.DiskFormat`."""


@dataclass(frozen=True, slots=True)
class Described:
    """A machine, and what its disks are made of.

    Attributes:
        disks: Entry of the disk section by `SourceDisk.key`.
        formats: Format by `SourceDisk.key`.
    """

    vm: SourceVM
    disks: Mapping[str, Disk]
    formats: Mapping[str, str]


def describe(package: Package, system: System, name: str = "") -> Described:
    """Return the machine that one system of a package describes.

    Args:
        package: The package.
        system: One of its systems.
        name: What the user calls it: the machine's name then.

    Raises:
        DescriptorInvalid: something that cannot be done without is missing or no sense.
    """
    hardware = child(system.element, "VirtualHardwareSection")
    if hardware is None:
        raise DescriptorInvalid(f"virtual system {system.id!r} has no hardware section")
    rows = items.items(hardware, package.configuration)
    drives = devices.drives(rows, package)
    extras = vendors.extras(system.element, hardware, rows)
    guest_os, number = _guest(system.element, extras)
    label = guests.os_label(guest_os, number)
    formats = {drive.key: disk_format(drive.disk) for drive in drives}
    ranks = _boot_ranks(drives)
    nics = devices.nics(rows, extras.macs)
    vm = SourceVM(
        id=system.id,
        name=name or system.name,
        cpu_count=_cpus(rows),
        memory_mib=_memory_mib(rows, system),
        disks=tuple(_disk(drive, ranks[drive.key], formats[drive.key], package) for drive in drives),
        nics=nics,
        firmware=extras.firmware,
        secure_boot=extras.secure_boot,
        tpm=extras.tpm,
        uuid=extras.uuid,
        description=_annotation(system.element),
        guest_os=guest_os or None,
        os_label=label,
        clock_offset=guests.clock_offset(label),
        power_state=PowerState.OFF,
        findings=_findings(extras, package, drives),
        known_networks=tuple(
            dict.fromkeys((*package.networks, *(network for nic in nics for network in nic.networks)))
        ),
    )
    return Described(vm, {drive.key: drive.disk for drive in drives}, formats)


def disk_format(disk: Disk) -> str:
    """Return the format of a disk as `converters.formats` calls it; empty when nobody knows."""
    if disk.file is None:
        return BLANK
    name = disk.file.href.lower()
    if disk.file.compression:
        name = name.removesuffix(".gz")
    by_name = next((word for end, word in _BY_NAME if name.endswith(end)), "")
    by_uri = next((word for part, word in _BY_URI if part in disk.format.lower()), "")
    return by_name or by_uri or ("raw" if name.endswith((".img", ".bin")) else "")


def _disk(drive: Drive, rank: int, image_format: str, package: Package) -> SourceDisk:
    disk = drive.disk
    href = disk.file.href if disk.file else ""
    allocated = max(disk.populated_bytes or 0, (disk.file.size or 0) if disk.file else 0)
    return SourceDisk(
        key=drive.key,
        name=href or disk.id,
        size_bytes=disk.capacity_bytes,
        bus=drive.bus,
        aliases=tuple(dict.fromkeys(name for name in (disk.id, href, drive.item.get("ElementName")) if name)),
        boot_order=rank,
        unsupported=_unsupported(disk, image_format, package),
        allocated_bytes=min(allocated, disk.capacity_bytes) if allocated or disk.file is None else None,
    )


def _unsupported(disk: Disk, image_format: str, package: Package) -> str | None:
    if package.encrypted:
        return "encrypted"
    if disk.parent:
        return f"it holds only the differences to disk {disk.parent}"
    if not image_format:
        return f"its format {disk.format!r} is not known"
    return None


def _boot_ranks(drives: Sequence[Drive]) -> dict[str, int]:
    """Return places in the boot order, from 1: marked disks first, the others in device order."""
    order = sorted(drives, key=lambda drive: (not drive.disk.boots, drive.item.number("BootOrder") or 99))
    return {drive.key: rank for rank, drive in enumerate(order, start=1)}


def _cpus(rows: Sequence[Item]) -> int:
    """Return the CPUs of all sockets: one row without the number is one CPU; no row is one too."""
    row = next((row for row in rows if row.type == items.CPU), None)
    if row is None:
        return 1
    quantity = row.get("VirtualQuantity")
    if not quantity and row.get("num_of_sockets"):  # oVirt
        parts = (row.number(name) for name in ("num_of_sockets", "cpu_per_socket", "threads_per_cpu"))
        sockets, cores, threads = (part or 1 for part in parts)
        quantity = str(sockets * cores * threads)
    count = units.whole_number(quantity or "1", "the number of CPUs", _MAX_CPUS)
    if not count:
        raise DescriptorInvalid("the number of CPUs is 0")
    return count


def _memory_mib(rows: Sequence[Item], system: System) -> int:
    row = next((row for row in rows if row.type == items.MEMORY), None)
    if row is None:
        raise DescriptorInvalid(f"virtual system {system.id!r} does not say how much memory it has")
    unit = row.get("AllocationUnits") or row.get("VirtualQuantityUnits") or "MegaBytes"
    size = units.size_bytes(row.get("VirtualQuantity"), unit, "the memory")
    if size < _MIB:
        raise DescriptorInvalid(f"the memory is {size} bytes, less than a mebibyte")
    return size // _MIB


def _guest(system: Element, extras: vendors.Extras) -> tuple[str, int | None]:
    section = child(system, "OperatingSystemSection")
    if section is None:
        return extras.guest_os, None
    number = attribute(section, "id")
    description = text(section, "Description")
    words = (
        attribute(section, "osType")
        or text(section, "OSType")
        or extras.guest_os
        or ("" if _NOTHING_SAID in description else description)
    )
    return words, int(number) if number.isascii() and number.isdigit() and len(number) < 6 else None  # noqa: PLR2004


def _annotation(system: Element) -> str | None:
    parts = [
        text(section, "Annotation", _MAX_ANNOTATION) for section in children(system, "AnnotationSection")
    ]
    return "\n".join(part for part in parts if part) or None


def _findings(extras: vendors.Extras, package: Package, drives: Sequence[Drive]) -> tuple[Finding, ...]:
    found = []
    if extras.firmware is Firmware.UEFI:
        found.append(
            warning(
                "EFIVariablesNotCarriedOver",
                "the VM's EFI variables (boot entries, enrolled keys) stay behind",
                r"Make sure that the guest has the fallback loader \EFI\BOOT\BOOTX64.EFI.",
            )
        )
    if extras.tpm:
        found.append(
            warning(
                "TPMStateNotCarriedOver",
                "the VM's virtual TPM is empty after the import",
                "Have the recovery keys of whatever is sealed to the TPM.",
            )
        )
    held = {drive.disk.id for drive in drives}
    loose = [disk for disk in package.disks if disk not in held]
    if loose and len(package.systems) == 1:
        found.append(
            warning(
                "DiskNotAttached",
                f"the package holds disks that no VM has and that are left out: {listed(loose)}",
                "Nothing to do, unless they are wanted: then correct the descriptor.",
            )
        )
    return tuple(found)


def listed(names: Sequence[str]) -> str:
    """Return some of the names, for a message."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(name[:MAX_SHOWN] for name in names[:MAX_LISTED]) + more


def warning(identifier: str, message: str, remedy: str) -> Finding:
    """Return what the user should know and what stops nothing."""
    return Finding(identifier, Severity.WARNING, message, remedy, prediction=True)
