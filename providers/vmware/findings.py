"""What a VM's own description gives reason to say before its import starts. Pure.

What makes a single disk unfit for export stands at the disk (`SourceDisk.unsupported`), because a disk can be
left out of an import.

Every identifier here is API: it stands in `status.preflight[].id`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from providers.model import Finding, PowerState, Severity, SourceVM
from providers.vmware.devices import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_device = vim.vm.device


def of_vm(vm: SourceVM, properties: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return all findings, those that stop the import first."""
    devices = properties.get("config.hardware.device") or ()
    found = [
        *_of_state(vm, properties),
        *_of_history(properties),
        *_of_firmware(vm, properties),
        *_of_devices(devices),
        *_of_hot_plug(properties),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.CRITICAL))


def _critical(id_: str, message: str, remedy: str, *, prediction: bool = False) -> Finding:
    return Finding(id_, Severity.CRITICAL, message, remedy, prediction)


def _warning(id_: str, message: str, remedy: str) -> Finding:
    return Finding(id_, Severity.WARNING, message, remedy, prediction=True)


def _of_state(vm: SourceVM, properties: Mapping[str, Any]) -> Iterator[Finding]:
    connection = str(properties.get("runtime.connectionState") or "connected")
    if connection != "connected" or "config.hardware.device" not in properties:
        yield _critical(
            "VMInaccessible",
            f"the VM's state is {connection!r}: vSphere cannot read its files or reach its host",
            "Bring its host and datastores back in vSphere.",
        )
    if properties.get("config.template"):
        yield _critical(
            "Template",
            "the source is a template",
            "Convert it to a virtual machine, or deploy one from it and import that.",
        )
    if properties.get("config.ftInfo") is not None:
        yield _critical(
            "FaultTolerance",
            "the VM is protected by vSphere Fault Tolerance and cannot be exported",
            "Turn Fault Tolerance off for the time of the import.",
        )
    if vm.power_state is PowerState.SUSPENDED:
        yield _critical(
            "Suspended",
            "the VM is suspended; switching it off would lose the contents of its memory",
            "Resume it and shut it down, or set skipPreflightChecks to let the suspended state go.",
            prediction=True,
        )
    question = properties.get("runtime.question")
    if question is not None:
        yield _critical(
            "QuestionPending",
            f"the VM waits for an answer: {' '.join((question.text or '').split())}",
            "Answer the question in vSphere.",
            prediction=True,
        )


def _of_history(properties: Mapping[str, Any]) -> Iterator[Finding]:
    snapshot = properties.get("snapshot")
    if snapshot is not None and snapshot.rootSnapshotList:
        yield _warning(
            "Snapshots",
            f"the VM has {_count(snapshot.rootSnapshotList)} snapshot(s); only the current state is imported",
            "Nothing to do, unless a snapshot is to be kept: it stays at the source only.",
        )
    if properties.get("runtime.consolidationNeeded"):
        yield _warning(
            "ConsolidationNeeded",
            "the VM's disks need consolidation, which makes the export slow or fail",
            "Consolidate the disks in vSphere.",
        )


def _count(snapshots: Sequence[Any]) -> int:
    return sum(1 + _count(snapshot.childSnapshotList or ()) for snapshot in snapshots)


def _of_firmware(vm: SourceVM, properties: Mapping[str, Any]) -> Iterator[Finding]:
    if vm.firmware == "uefi":
        yield _warning(
            "EFIVariablesNotCarriedOver",
            "the VM's EFI variables (boot entries, enrolled keys) stay behind",
            r"Make sure that the guest has the fallback loader \EFI\BOOT\BOOTX64.EFI.",
        )
    if vm.tpm:
        yield _warning(
            "TPMStateNotCarriedOver",
            "the VM's virtual TPM is empty after the import",
            "Suspend BitLocker, or have the recovery keys of whatever is sealed to the TPM.",
        )
    if properties.get("config.keyId") is not None:
        yield _warning(
            "EncryptedHome",
            "the VM's configuration is encrypted; vSphere may refuse to export it",
            "If the export is refused, remove the encryption storage policy from the VM.",
        )


def _of_devices(devices: Sequence[Any]) -> Iterator[Finding]:
    left_behind = (
        (_device.VirtualPCIPassthrough, "Passthrough", "PCI passthrough or vGPU device"),
        (_device.VirtualSriovEthernetCard, "SRIOV", "SR-IOV network card (it becomes a virtio one)"),
        (_device.VirtualUSB, "USBDevice", "USB device"),
    )
    for kind, id_, what in left_behind:
        labels = [_label(device) for device in devices if isinstance(device, kind)]
        if labels:
            yield _warning(
                id_,
                f"{what} not carried over: {', '.join(labels)}",
                "Attach an equal one in Harvester after the import, if it is needed.",
            )
    media = [_medium(d) for d in devices if isinstance(d, _device.VirtualCdrom | _device.VirtualFloppy)]
    inserted = [medium for medium in media if medium]
    if inserted:
        yield _warning(
            "RemovableMedia",
            f"inserted media are not carried over: {', '.join(inserted)}",
            "Upload the image to Harvester and attach it there, if it is needed.",
        )


def _label(device: Any) -> str:
    return (device.deviceInfo.label if device.deviceInfo else None) or f"device {device.key}"


def _medium(drive: Any) -> str:
    path = getattr(drive.backing, "fileName", None)
    connected = drive.connectable is not None and (
        drive.connectable.connected or drive.connectable.startConnected
    )
    return file_name(path) if path and connected else ""


def _of_hot_plug(properties: Mapping[str, Any]) -> Iterator[Finding]:
    names = (("config.cpuHotAddEnabled", "CPU"), ("config.memoryHotAddEnabled", "memory"))
    enabled = [name for key, name in names if properties.get(key)]
    if enabled:
        yield _warning(
            "HotPlugNotCarriedOver",
            f"hot-add of {' and '.join(enabled)} is enabled at the source and not set at the new VM",
            "Enable it in Harvester after the import, if it is needed.",
        )
