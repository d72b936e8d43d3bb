"""From the properties of a vSphere VM to a `SourceVM`. Pure: plain dicts in, frozen data out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from providers.model import Firmware, PowerState, SourceVM
from providers.vmware import devices, findings, guests, names

if TYPE_CHECKING:
    from collections.abc import Mapping

PROPERTIES = (
    "name",
    "snapshot",
    "config.annotation",
    "config.bootOptions",
    "config.cpuHotAddEnabled",
    "config.firmware",
    "config.ftInfo",
    "config.guestId",
    "config.hardware.device",
    "config.hardware.memoryMB",
    "config.hardware.numCPU",
    "config.keyId",  # since vSphere 6.5, the oldest that is supported
    "config.memoryHotAddEnabled",
    "config.template",
    "config.uuid",
    "guest.toolsRunningStatus",
    "layoutEx.disk",
    "layoutEx.file",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "runtime.powerState",
    "runtime.question",
)
"""All that is read of a VM. Never whole `runtime` or `config`: one unparsable part would lose everything, and
`config.extraConfig` holds secrets of guests."""

_POWER_STATES = {
    "poweredOn": PowerState.ON,
    "poweredOff": PowerState.OFF,
    "suspended": PowerState.SUSPENDED,
}
# VirtualMachineToolsRunningStatus; guestToolsExecutingScripts is a start or a stop in progress.
_TOOLS_RUNNING = "guestToolsRunning"

_NO_NETWORKS = devices.Networks()


def to_source_vm(
    moref: str, properties: Mapping[str, Any], networks: devices.Networks = _NO_NETWORKS
) -> SourceVM:
    """Return the VM that `properties` describe.

    Args:
        moref: Its identifier: `vm-123`.
        properties: `PROPERTIES` by path; a missing key means unset, as on a VM that vSphere cannot read.
        networks: Names of the networks that network cards refer to by key.
    """
    hardware = properties.get("config.hardware.device") or ()
    boot_options = properties.get("config.bootOptions")
    boot_order = (boot_options.bootOrder if boot_options else None) or ()
    firmware = Firmware.UEFI if properties.get("config.firmware") == "efi" else Firmware.BIOS
    guest_id = properties.get("config.guestId")
    uuid = (properties.get("config.uuid") or "").lower()
    vm = SourceVM(
        id=moref,
        name=names.shown(properties.get("name", moref)),
        cpu_count=properties.get("config.hardware.numCPU", 0),
        memory_mib=properties.get("config.hardware.memoryMB", 0),
        disks=devices.disks(hardware, boot_order, allocated_bytes(properties)),
        nics=devices.nics(hardware, boot_order, networks),
        firmware=firmware,
        secure_boot=bool(
            firmware is Firmware.UEFI and boot_options is not None and boot_options.efiSecureBootEnabled
        ),
        tpm=any(isinstance(device, vim.vm.device.VirtualTPM) for device in hardware),
        uuid=uuid or None,
        serial=smbios_serial(uuid) if uuid else None,
        description=properties.get("config.annotation") or None,
        guest_os=guest_id,
        os_label=guests.os_label(guest_id),
        clock_offset=guests.clock_offset(guest_id),
        power_state=power_state(properties),
        tools_running=properties.get("guest.toolsRunningStatus") == _TOOLS_RUNNING,
    )
    return dataclasses.replace(vm, findings=findings.of_vm(vm, properties))


def allocated_bytes(properties: Mapping[str, Any]) -> dict[int, int]:
    """Return what each disk, by device key, holds on its datastore, snapshots included."""
    sizes = {file.key: file.size for file in properties.get("layoutEx.file") or ()}
    return {
        disk.key: sum(sizes.get(key, 0) for link in disk.chain or () for key in link.fileKey or ())
        for disk in properties.get("layoutEx.disk") or ()
    }


def power_state(properties: Mapping[str, Any]) -> PowerState:
    """Return the state in `runtime.powerState`."""
    return _POWER_STATES.get(str(properties.get("runtime.powerState")), PowerState.UNKNOWN)


def smbios_serial(uuid: str) -> str:
    """Return the serial number that a guest of VMware reads from SMBIOS.

    Its form is `VMware-42 1f 9a ... -de ad ...`: the bytes of the BIOS UUID in two groups of eight. Software
    licences are bound to it, so the new VM keeps it.
    """
    pairs = [pair.hex() for pair in (bytes([byte]) for byte in bytes.fromhex(uuid.replace("-", "")))]
    return f"VMware-{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"
