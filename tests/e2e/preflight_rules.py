"""What Preflight has to say, as a table: a VM, an import of it, and what is found. Data only.

Each rule has a VM of its own, tiny and in a folder of its own, in a vCenter that others use at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from tests.lab.scene import PORT_GROUP
from tests.lab.vcenter_model import NIC, Disk, Obstacles

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = "preflight"
DISK: Final = Disk(1 << 20)  # its file is put in when it is made
CRITICAL, WARNING = "Critical", "Warning"
UNSUPPORTED: Final = {"UnsupportedDisk": CRITICAL}
HUGE: Final = 1 << 53  # more than any scratch volume has
MISTAKEN: Final = {"storageClass": "gold", "targetName": "taken"}
SWITCH, DISTRIBUTED = "Preflight-DSwitch", "preflight_dvs_10"
TAKEN_MAC: Final = "00:50:56:11:22:33"
VAULT: Final = "preflight-vault"  # a StorageClass of encrypted volumes


@dataclass(frozen=True, slots=True)
class Rule:
    """One scenario.

    Attributes:
        vm: Options of the VM, over those that every VM here has.
        spec: Of the import, over what every import here says. `{moref}`, `{uuid}` and `{namespace}` in a text
            stand for the VM's identifiers and the import's namespace.
        finds: All findings, by identifier, with their severity.
        says: Words in the messages of the findings.
        vm_name: Name of the VM; default made of the rule's.
        twin: Another VM of that name stands in another folder.
        target: The name that was chosen for the new VM; looked at when given.
        goes_on: Whether the import goes on; default: when nothing critical is found.
    """

    finds: Mapping[str, str] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    vm: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    vm_name: str = ""
    twin: bool = False
    target: str = ""
    goes_on: bool | None = None

    @property
    def passes(self) -> bool:
        return CRITICAL not in self.finds.values() if self.goes_on is None else self.goes_on


def _disk(**options: Any) -> dict[str, Any]:
    """Return the options of a VM whose second disk is special."""
    return {"disks": [DISK, replace(DISK, **options)]}


def _obstacle(**which: Any) -> dict[str, Any]:
    return {"obstacles": Obstacles(**which)}


def _networks(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"networkMapping": [{"sourceNetwork": a, "destinationNetwork": b} for a, b in pairs]}


DISKS: Final = {
    "a raw device mapping is named with its disk": Rule(
        UNSUPPORTED, ("disk scsi0:1 ", "RDM (physicalMode)"), _disk(backing="rdm")
    ),
    "a disk with several writers is named": Rule(
        UNSUPPORTED, ("disk scsi0:1 ", "multi-writer"), _disk(sharing="sharingMultiWriter")
    ),
    "a disk on a shared bus is named": Rule(
        UNSUPPORTED,
        ("disk scsi1:0 ", "bus sharing (virtualSharing)"),
        _disk(controller="lsilogic-sas", shared_bus="virtualSharing"),
    ),
    "an independent disk is named": Rule(
        UNSUPPORTED, ("disk scsi0:1 ", "independent persistent"), _disk(mode="independent_persistent")
    ),
    "an encrypted disk is named": Rule(UNSUPPORTED, ("encrypted",), {"encrypted": True}),
    "a disk that cannot be exported can be left out": Rule(
        vm=_disk(backing="rdm"), spec={"diskMapping": [{"sourceDisk": "scsi0:1", "skip": True}]}
    ),
    "a disk can be left out by its device key": Rule(
        vm=_disk(backing="rdm"), spec={"diskMapping": [{"sourceDisk": "disk-2001", "skip": True}]}
    ),
    "a disk can be left out by the name of its file": Rule(
        vm=_disk(backing="rdm"),
        spec={"diskMapping": [{"sourceDisk": "by file_1.vmdk", "skip": True}]},
        vm_name="by file",
    ),
    "an exception for a disk that does not exist is told with those that do": Rule(
        {"DiskNotFound": CRITICAL},
        ("'scsi3:9'", "'scsi0:0', 'scsi0:1'"),
        _disk(),
        {"diskMapping": [{"sourceDisk": "scsi3:9", "bus": "sata"}]},
    ),
    "a VM without disks is not imported": Rule({"NoDisks": CRITICAL}, vm={"disks": []}),
    "disks that scratch may not hold are told": Rule(
        {"ScratchSpaceScarce": WARNING, "Template": CRITICAL},
        ("8192.0 TiB", "free"),
        {"disks": [replace(DISK, size_bytes=HUGE)], **_obstacle(template=True)},
    ),
}

STATES: Final = {
    "a template is not imported": Rule({"Template": CRITICAL}, vm=_obstacle(template=True)),
    "a VM under Fault Tolerance is not imported": Rule(
        {"FaultTolerance": CRITICAL}, vm=_obstacle(fault_tolerance=True)
    ),
    "a VM that vSphere cannot read is not imported": Rule(
        {"VMInaccessible": CRITICAL}, ("'inaccessible'",), _obstacle(inaccessible=True)
    ),
    "a question that waits is repeated": Rule(
        {"QuestionPending": CRITICAL},
        ("No space left. Retry?",),
        {"power_state": "on", **_obstacle(question="No space left.\nRetry?")},
    ),
    "a suspended VM keeps its memory": Rule(
        {"Suspended": CRITICAL}, ("memory",), {"power_state": "suspended"}
    ),
    "a guest that cannot be asked to shut down is told": Rule(
        {"GuestToolsNotRunning": CRITICAL}, vm={"power_state": "on", "tools": "not_running"}
    ),
    "a guest need not be asked when it is switched off hard": Rule(
        vm={"power_state": "on", "tools": "not_installed"}, spec={"forcePowerOff": True}
    ),
    "a guest need not be asked when it is off": Rule(vm={"tools": "not_installed"}),
    "missing privileges are named": Rule(
        {"PrivilegesMissing": CRITICAL},
        ("VApp.Export", "VirtualMachine.Interact.PowerOff"),
        _obstacle(denied_privileges=("VApp.Export", "VirtualMachine.Interact.PowerOff")),
    ),
}

LEFT_BEHIND: Final = {
    "snapshots do not stop an import": Rule({"Snapshots": WARNING}, ("2 snapshot",), {"snapshots": 2}),
    "disks to be consolidated do not stop an import": Rule(
        {"ConsolidationNeeded": WARNING}, vm=_obstacle(consolidation_needed=True)
    ),
    "an encrypted configuration does not stop an import": Rule(
        {"EncryptedHome": WARNING}, vm=_obstacle(encrypted_home=True)
    ),
    "it is told that TPM and EFI start empty": Rule(
        {"TPMStateNotCarriedOver": WARNING, "EFIVariablesNotCarriedOver": WARNING},
        ("BOOTX64", "BitLocker"),
        {"firmware": "efi", "tpm": True},
    ),
    "devices of the host are told": Rule(
        {"Passthrough": WARNING, "SRIOV": WARNING, "USBDevice": WARNING},
        vm={"nics": [NIC(PORT_GROUP, "sriov")], **_obstacle(passthrough=True, usb=True)},
    ),
    "hot-add is told": Rule({"HotPlugNotCarriedOver": WARNING}, ("CPU and memory",), _obstacle(hot_add=True)),
    "a clock that the guest takes for local time is told": Rule(
        {"HardwareClockInUTC": WARNING}, ("local time",), {"guest_id": "windows2019srv_64Guest"}
    ),
    "the second card without a network is told": Rule(
        {"NetworkInterfaceLeftOut": WARNING},
        ("ethernet1", "'VM Network'"),
        {"nics": [NIC(PORT_GROUP), NIC("VM Network")]},
        _networks(),
    ),
}

DESTINATION: Final = {
    "a storage class that does not exist is named": Rule(
        {"StorageClassNotFound": CRITICAL}, ("gold",), spec={"storageClass": "gold"}
    ),
    "a storage class that Longhorn cannot attach is named": Rule(
        {"StorageClassUnusable": CRITICAL}, (VAULT, "encrypts"), spec={"storageClass": VAULT}
    ),
    "a destination network that does not exist is named": Rule(
        {"DestinationNetworkNotFound": CRITICAL},
        ("{namespace}/vlan9",),
        spec=_networks((PORT_GROUP, "vlan9")),
    ),
    "a malformed destination network is named": Rule(
        {"DestinationNetworkMalformed": CRITICAL}, ("'a/b/c'",), spec=_networks((PORT_GROUP, "a/b/c"))
    ),
    "a source network that does not exist is told with those of the VM": Rule(
        {"SourceNetworkNotFound": CRITICAL},
        ("'Basement'", f"'{PORT_GROUP}'"),
        spec=_networks(("Basement", "mgmt"), (PORT_GROUP, "vlan1")),
    ),
    "a source network that is mapped twice is named": Rule(
        {"SourceNetworkDuplicate": CRITICAL},
        (f"'{PORT_GROUP}'", "2 times"),
        spec=_networks((PORT_GROUP, "vlan1"), (PORT_GROUP, "mgmt")),
    ),
    "a mapping may name networks that only other VMs are on": Rule(
        spec=_networks((PORT_GROUP, "vlan1"), ("VM Network", "mgmt"))
    ),
    "a distributed port group may be called by its path": Rule(
        vm={"nics": [NIC(DISTRIBUTED)]}, spec=_networks((f"{SWITCH}/{DISTRIBUTED}", "vlan1"))
    ),
    "a distributed port group may be called by its name": Rule(
        vm={"nics": [NIC(DISTRIBUTED)]}, spec=_networks((DISTRIBUTED, "vlan1"))
    ),
    "a MAC address that a VM here has is told": Rule(
        {"MACAddressTaken": CRITICAL},
        (TAKEN_MAC, "{namespace}/taken"),
        {"nics": [NIC(PORT_GROUP, mac=TAKEN_MAC.upper())]},
    ),
    "a target name that is taken is told": Rule(
        {"TargetNameTaken": CRITICAL}, ("{namespace}/taken",), spec={"targetName": "taken"}
    ),
    "a name of which none can be made asks for another": Rule(
        {"TargetNameInvalid": CRITICAL}, ("'仮想'", "spec.targetName"), vm_name="仮想"
    ),
}

NAMES: Final = {
    "a name that is not found is told with similar ones": Rule(
        {"SourceVMNotFound": CRITICAL},
        ("'billing-db1'", "similar", "/billing-db01 (vm-"),
        vm_name="billing-db01",
        spec={"virtualMachineName": "billing-db1"},
    ),
    "a name that two VMs have is told with both": Rule(
        {"SourceVMNotUnique": CRITICAL}, ("preflight/", "twins/", "({moref})"), vm_name="pair", twin=True
    ),
    "a folder tells two VMs of one name apart": Rule(
        vm_name="couple", twin=True, spec={"folder": "{folder}"}, target="couple"
    ),
    "a full path names a VM": Rule(
        vm_name="by path", spec={"virtualMachineName": "/DC0/vm/{folder}/by path"}, target="by-path"
    ),
    "a slash, a percent sign, spaces and umlauts are letters of a name": Rule(
        vm_name="R&D a/b 100% ü", target="r-d-a-b-100"
    ),
    "a name may be written as vSphere stores it": Rule(
        vm_name="stored/x", spec={"virtualMachineName": "stored%2fx"}, target="stored-x"
    ),
    "a name may hold what looks like an escape": Rule(vm_name="odd%2fname", target="odd-2fname"),
    "a MoRef names a VM": Rule(vm_name="known by moref", spec={"virtualMachineName": "{moref}"}),
    "an instance UUID names a VM": Rule(vm_name="known by uuid", spec={"virtualMachineName": "{uuid}"}),
}

ALL_AT_ONCE: Final = {
    "everything that is wrong is told at once": Rule(
        {
            "UnsupportedDisk": CRITICAL,
            "GuestToolsNotRunning": CRITICAL,
            "StorageClassNotFound": CRITICAL,
            "DestinationNetworkMalformed": CRITICAL,
            "SourceNetworkNotFound": CRITICAL,
            "TargetNameTaken": CRITICAL,
            "Snapshots": WARNING,
        },
        vm={**_disk(backing="rdm"), "power_state": "on", "tools": "not_running", "snapshots": 1},
        spec={**MISTAKEN, **_networks(("Basement", "Not/A/Network"))},
    ),
    "what cannot be done cannot be skipped": Rule(
        {"UnsupportedDisk": CRITICAL, "TargetNameTaken": CRITICAL, "StorageClassNotFound": CRITICAL},
        vm=_disk(backing="rdm"),
        spec={**MISTAKEN, "skipPreflightChecks": True},
    ),
    "what is only foreseen can be skipped": Rule(
        {"QuestionPending": CRITICAL, "SourceNetworkNotFound": CRITICAL},
        vm=_obstacle(question="Really?"),
        spec={**_networks(("Basement", "mgmt")), "skipPreflightChecks": True},
        goes_on=True,
    ),
}

RULES: Final = {**DISKS, **STATES, **LEFT_BEHIND, **DESTINATION, **NAMES, **ALL_AT_ONCE}
