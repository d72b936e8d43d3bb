"""The words of the lab's vCenter: what a test describes and what it is shown. Data only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from pathlib import Path

PowerState = Literal["on", "off", "suspended"]
Tools = Literal["running", "not_running", "not_installed"]
Server = Literal["vcenter", "esxi"]
Controller = Literal["pvscsi", "lsilogic", "lsilogic-sas", "buslogic", "ide", "ahci", "nvme"]
FaultKind = Literal[
    "cut",
    "truncate",
    "stall",
    "corrupt",
    "slow",
    "status",
    "lease_error",
    "method_fault",
    "task_fault",
    "method_delay",
    "sdk_status",
    "sdk_cut",
]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk to make.

    Attributes:
        size_bytes: Capacity.
        file: The streamOptimized VMDK that its export sends; without one ExportVm is a FileFault.
        bus: Number of the controller; default the first of that kind.
        unit: Place on the controller; default the next free one.
        backing: `rdm` is a raw device mapping.
        mode: vSphere's disk mode: `persistent`, `independent_persistent`, ...
        sharing: `sharingMultiWriter` for a shared disk.
        shared_bus: `virtualSharing` or `physicalSharing` for a SCSI controller that several VMs share.
    """

    size_bytes: int
    file: Path | None = None
    controller: Controller = "pvscsi"
    bus: int | None = None
    unit: int | None = None
    backing: Literal["flat", "rdm"] = "flat"
    mode: str = "persistent"
    sharing: str = ""
    shared_bus: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "controller": self.controller,
            "bus": self.bus,
            "unit": self.unit,
            "size": self.size_bytes,
            "file": str(self.file or ""),
            "backing": self.backing,
            "mode": self.mode,
            "sharing": self.sharing,
            "shared_bus": self.shared_bus,
        }


@dataclass(frozen=True, slots=True)
class NIC:
    """A network card to make; `mac` is generated when empty."""

    network: str = "VM Network"
    model: Literal["e1000", "e1000e", "vmxnet2", "vmxnet3", "pcnet32", "sriov"] = "vmxnet3"
    mac: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CDROM:
    """A CD-ROM drive: `iso` is a datastore path (`[LocalDS_0] a.iso`), empty for the client's drive."""

    iso: str = ""
    connected: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What may be the matter with a VM when somebody wants to export it.

    Attributes:
        template: It is one.
        fault_tolerance: vSphere keeps a second one in step with it.
        question: Text of a question that waits for an answer.
        consolidation_needed: Disks of deleted snapshots are left.
        inaccessible: vSphere cannot read its files, so that it shows no configuration.
        encrypted_home: Its configuration is encrypted, its disks may not be.
        hot_add: CPUs and memory may be added while it runs.
        passthrough: It has a device of its host.
        usb: It has a USB device.
        denied_privileges: What the account may not do with it: `VApp.Export`. Asked for it, and doing it, it
            is refused.
    """

    template: bool = False
    fault_tolerance: bool = False
    question: str = ""
    consolidation_needed: bool = False
    inaccessible: bool = False
    encrypted_home: bool = False
    hot_add: bool = False
    passthrough: bool = False
    usb: bool = False
    denied_privileges: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


NO_OBSTACLES = Obstacles()


@dataclass(frozen=True, slots=True)
class VMDisk:
    """A disk as it was made: `key` is its device key, `file_name` its datastore path."""

    key: int
    controller: str
    bus: int
    unit: int
    file_name: str


@dataclass(frozen=True, slots=True)
class VMNIC:
    """A network card as it was made."""

    key: int
    mac: str


@dataclass(frozen=True, slots=True)
class VM:
    """A VM as it was made."""

    name: str
    moref: str
    uuid: str
    instance_uuid: str
    disks: tuple[VMDisk, ...]
    nics: tuple[VMNIC, ...]

    @classmethod
    def from_json(cls, name: str, data: dict[str, Any]) -> Self:
        return cls(
            name=name,
            moref=data["moref"],
            uuid=data["uuid"],
            instance_uuid=data["instance_uuid"],
            disks=tuple(VMDisk(**disk) for disk in data["disks"] or ()),
            nics=tuple(VMNIC(**nic) for nic in data["nics"] or ()),
        )


@dataclass(frozen=True, slots=True)
class DiskState:
    """How often a disk was asked for, how often sent to its end, and how many bytes went out.

    `cookies` counts the requests that brought a cookie along.
    """

    key: int
    file: str
    gets: int
    completed: int
    bytes: int
    cookies: int


@dataclass(frozen=True, slots=True)
class VMState:
    """A VM now; `calls` counts the SOAP calls of clients on it by method: `{"ExportVm": 1}`."""

    name: str
    moref: str
    path: str
    power_state: str
    snapshots: int
    leased: bool
    tools: str
    ignores_shutdown: bool
    shutdown_seconds: float
    calls: dict[str, int]
    disks: tuple[DiskState, ...]


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease, alive or ended (`done`, `error`); `percent` is the progress last reported."""

    vm: str
    state: str
    timed_out: bool
    percent: int


@dataclass(frozen=True, slots=True)
class State:
    """What the vCenter knows.

    Attributes:
        sessions: Open sessions of clients.
        logins: Logins that succeeded since the start; `refused_logins` those that did not.
        calls: SOAP calls of clients by method.
    """

    vms: tuple[VMState, ...]
    leases: tuple[LeaseState, ...]
    sessions: int
    logins: int
    refused_logins: int
    calls: dict[str, int]

    def vm(self, name: str) -> VMState:
        """Return the VM of that name or MoRef; it must be the only one."""
        (found,) = (vm for vm in self.vms if name in (vm.name, vm.moref))
        return found

    @property
    def alive_leases(self) -> tuple[LeaseState, ...]:
        """The leases that still lock a VM."""
        return tuple(lease for lease in self.leases if lease.state in ("initializing", "ready"))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            vms=tuple(
                VMState(**{**vm, "disks": tuple(DiskState(**disk) for disk in vm["disks"])})
                for vm in data["vms"]
            ),
            leases=tuple(LeaseState(**lease) for lease in data["leases"]),
            sessions=data["sessions"],
            logins=data["logins"],
            refused_logins=data["refused_logins"],
            calls=data["calls"],
        )
