"""What a source tells about a virtual machine, in one vocabulary for all sources.

Frozen data with units in the names. `SourceVM.to_dict` / `SourceVM.from_dict` are exact inverses through
JSON: the controller keeps the description in the import's status, so that the machine it builds in the end is
the machine it looked at when it switched the source off, whatever happened to the source since.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class PowerState(StrEnum):
    """Power state of a source VM; the words are those shown in `status.sourcePowerState`."""

    ON = "PoweredOn"
    OFF = "PoweredOff"
    SUSPENDED = "Suspended"
    UNKNOWN = "Unknown"


class Firmware(StrEnum):
    """How the machine starts."""

    BIOS = "bios"
    UEFI = "uefi"


class DiskBus(StrEnum):
    """KubeVirt's disk buses; the words are those of `spec.defaultDiskBusType`."""

    SATA = "sata"
    SCSI = "scsi"
    USB = "usb"
    VIRTIO = "virtio"


class NICModel(StrEnum):
    """KubeVirt's network interface models; the words are those of `spec.defaultNetworkInterfaceModel`."""

    E1000 = "e1000"
    E1000E = "e1000e"
    NE2K_PCI = "ne2k_pci"
    PCNET = "pcnet"
    RTL8139 = "rtl8139"
    VIRTIO = "virtio"


class Severity(StrEnum):
    """Weight of a finding: `CRITICAL` stops the import before anything is touched, `WARNING` does not."""

    CRITICAL = "Critical"
    WARNING = "Warning"


class _Codec:
    """JSON form of the frozen dataclasses below: names in camelCase, unset optionals left out."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict; fields that are `None` or empty tuples are left out."""
        return {
            _camel(f.name): _encode(value)
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, f.name)) is not None and value != ()
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`; unknown keys are ignored (written by a newer version)."""
        hints = typing.get_type_hints(cls)
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return cls(
            **{name: _decode(hints[name], data[_camel(name)]) for name in names if _camel(name) in data}
        )


def _camel(name: str) -> str:
    """Return a field's name as the Kubernetes API conventions want it: `size_bytes` -> `sizeBytes`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _encode(value: Any) -> Any:
    if isinstance(value, _Codec):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def _decode(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        origin = typing.get_origin(hint)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, entry) for entry in value)
    if isinstance(hint, type) and issubclass(hint, _Codec):
        return hint.from_dict(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    return value


@dataclass(frozen=True, slots=True)
class Finding(_Codec):
    """One thing that preflight has to say about a VM or its import.

    Attributes:
        id: CamelCase, stable: users and scripts match on it.
        message: What was found, with the names that matter.
        remedy: What the user can do about it; a full sentence.
        prediction: True when the finding only foretells trouble later, so that `skipPreflightChecks` may
            overrule it; False when nothing can be done at all.
    """

    id: str
    severity: Severity
    message: str
    remedy: str = ""
    prediction: bool = False


@dataclass(frozen=True, slots=True)
class SourceDisk(_Codec):
    """One virtual disk.

    Attributes:
        key: Stable name within the VM that a user can also write in `diskMapping[].sourceDisk`: `scsi0:1`.
        name: File or volume name at the source, for people.
        size_bytes: Virtual size. A multiple of 512.
        bus: Bus as detected, `None` when the source does not say.
        aliases: Other names that `diskMapping[].sourceDisk` accepts for it: `disk-2000`, the file name.
        handle: The provider's own identifier (VMware: device key; OpenStack: volume UUID).
        boot_order: 1 for the disk to boot from, and so on; `None` when the source does not say.
        unsupported: Why the disk cannot be exported (`RDM`, `multi-writer`, ...); empty when it can.
        serial: Serial number that the guest sees, if the source sets one.
        allocated_bytes: What the disk holds of `size_bytes`, about, when the source tells.
    """

    key: str
    name: str
    size_bytes: int
    bus: DiskBus | None = None
    aliases: tuple[str, ...] = ()
    handle: str = ""
    boot_order: int | None = None
    unsupported: str | None = None
    serial: str | None = None
    allocated_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SourceNIC(_Codec):
    """One network card, in the order in which the guest sees them.

    Attributes:
        networks: Every name by which `networkMapping[].sourceNetwork` may call its network, the plain name
            first: (`dvs_10`, `DSwitch/dvs_10`). Empty when it is attached to none.
        model: Model as detected, `None` when the source does not say or the model has no equal in KubeVirt.
        mac: Lower-case, colon-separated; `None` when the source has not assigned one.
        boot_order: Its place in the boot order (network boot), `None` when not in it.
    """

    key: str
    networks: tuple[str, ...] = ()
    model: NICModel | None = None
    mac: str | None = None
    boot_order: int | None = None


@dataclass(frozen=True, slots=True)
class SourceVM(_Codec):
    """A virtual machine as its source describes it: everything that is needed to build an equal one.

    Attributes:
        id: The provider's identifier (VMware: MoRef `vm-123`; OpenStack: server UUID).
        cpu_count: Total number of virtual CPUs, however the source splits it into sockets and cores.
        guest_os: The source's identifier of the guest system (`ubuntu64Guest`), for people.
        os_label: Value of Harvester's `harvesterhci.io/os` label, when the guest system is known.
        clock_offset: `utc`, or `localtime` for guests that keep local time in the hardware clock.
        tools_running: Whether the guest can be asked to shut down; `None` when the source has no such notion.
        findings: What the source's own description gives reason to say before the import starts. What
            concerns one disk only stands in `SourceDisk.unsupported`, for a disk can be left out.
        known_networks: Names of all networks that a VM of this source could be on, for checking a mapping
            that serves many VMs; not kept in status.
    """

    id: str
    name: str
    cpu_count: int
    memory_mib: int
    disks: tuple[SourceDisk, ...] = ()
    nics: tuple[SourceNIC, ...] = ()
    firmware: Firmware = Firmware.BIOS
    secure_boot: bool = False
    tpm: bool = False
    uuid: str | None = None
    serial: str | None = None
    description: str | None = None
    guest_os: str | None = None
    os_label: str | None = None
    clock_offset: str = "utc"
    power_state: PowerState = PowerState.UNKNOWN
    tools_running: bool | None = None
    findings: tuple[Finding, ...] = ()
    known_networks: tuple[str, ...] = ()
