"""Checks of the source VM itself: its disks, its power, and the room for it in scratch."""

from __future__ import annotations

from controller import builders
from controller.api.types import VirtualMachineImport
from controller.phases.base import Context, format_bytes
from controller.phases.preflight.findings import critical, listed, prediction, warning
from providers.model import Finding, PowerState, SourceDisk, SourceVM


def chosen_disks(vmimport: VirtualMachineImport, vm: SourceVM) -> tuple[SourceDisk, ...]:
    """Return the disks to import, boot disk first."""
    kept = []
    for disk in vm.disks:
        exception = builders.find_disk_mapping(vmimport, disk)
        if not (exception and exception.skip):
            kept.append(disk)
    return builders.boot_sorted(kept)


def check_disks(vmimport: VirtualMachineImport, vm: SourceVM, disks: tuple[SourceDisk, ...]) -> list[Finding]:
    """Check that there are disks, that each can be exported, and that exceptions name existing ones."""
    findings = []
    unreadable = any(finding.id == "VMInaccessible" for finding in vm.findings)  # then nobody knows its disks
    if not disks and not unreadable:
        findings.append(critical("NoDisks", f"VM {vm.name!r} has no disk to import", "Choose another VM."))
    findings += [
        critical(
            "UnsupportedDisk",
            f"disk {disk.key} ({disk.name}) cannot be exported: {disk.unsupported}",
            "Change the disk at the source, or leave it out with spec.diskMapping[].skip.",
        )
        for disk in disks
        if disk.unsupported
    ]
    known = {name for disk in vm.disks for name in (disk.key, *disk.aliases)}
    findings += [
        prediction(
            "DiskNotFound",
            f"spec.diskMapping names disk {entry.source_disk!r}; the VM has "
            f"{listed([disk.key for disk in vm.disks])}",
            "Correct spec.diskMapping[].sourceDisk.",
        )
        for entry in vmimport.spec.disks
        if entry.source_disk not in known
    ]
    return findings


def check_power(vmimport: VirtualMachineImport, vm: SourceVM) -> list[Finding]:
    """Check that the guest can be shut down the way the import asks for."""
    if vm.power_state is PowerState.ON and vm.tools_running is False and not vmimport.spec.force_power_off:
        return [
            prediction(
                "GuestToolsNotRunning",
                f"VM {vm.name!r} is powered on and its guest cannot be asked to shut down: VMware Tools is "
                "not running",
                "Start VMware Tools, switch the VM off, or set spec.forcePowerOff.",
            )
        ]
    return []


def check_clock(vm: SourceVM) -> list[Finding]:
    """Tell what becomes of a hardware clock that the guest keeps in local time.

    KubeVirt's clock runs in UTC, or in a time zone by name; the source knows no name of the guest's zone.
    https://kubevirt.io/api-reference/v1.5.0/definitions.html#_v1_clock
    """
    if vm.clock_offset != "localtime":
        return []
    return [
        warning(
            "HardwareClockInUTC",
            "the guest takes its hardware clock for local time, and the new VM's runs in UTC: its time may "
            "be wrong by its zone until it has asked a time server",
            "Set spec.template.spec.domain.clock.timezone of the new VM to the guest's zone, or "
            "RealTimeIsUniversal in the guest's registry.",
        )
    ]


def check_scratch(ctx: Context, disks: tuple[SourceDisk, ...]) -> list[Finding]:
    """Check that the scratch volume can hold what the disks really allocate, as far as the source tells.

    Room that other imports take is no obstacle: the transfer waits until they have given it back.
    """
    free, usable = ctx.scratch.free_bytes(), ctx.scratch.usable_bytes()
    known = sum(disk.allocated_bytes for disk in disks if disk.allocated_bytes is not None)
    virtual = sum(disk.size_bytes for disk in disks)
    remedy = "Enlarge the scratch volume, or free some of it."
    if known > usable:
        return [
            prediction(
                "ScratchSpaceInsufficient",
                f"the disks hold {format_bytes(known)}, and the scratch volume has room for "
                f"{format_bytes(usable)}",
                remedy,
            )
        ]
    if virtual > free:
        return [
            warning(
                "ScratchSpaceScarce",
                f"the disks are {format_bytes(virtual)} in all, and the scratch volume has "
                f"{format_bytes(free)} free; if that does not suffice, the import waits for room",
                remedy,
            )
        ]
    return []
