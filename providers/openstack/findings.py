"""What a server's description gives reason to say before its import starts. Pure.

What makes a single disk unfit for export stands at the disk (`SourceDisk.unsupported`), because a disk can be
left out of an import. Every identifier here is API: it stands in `status.preflight[].id`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.model import Finding, PowerState, Severity
from providers.openstack import quota, state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.model import SourceVM
    from providers.openstack.facts import ServerFacts


def of_server(vm: SourceVM, facts: ServerFacts) -> tuple[Finding, ...]:
    """Return all findings, those that stop the import first."""
    found = [
        *_of_state(vm, facts),
        *_of_flavor(facts),
        *_of_firmware(vm, facts),
        *_of_cards(facts),
        *quota.findings(vm, facts),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.CRITICAL))


def _critical(id_: str, message: str, remedy: str, *, prediction: bool = False) -> Finding:
    return Finding(id_, Severity.CRITICAL, message, remedy, prediction)


def _warning(id_: str, message: str, remedy: str) -> Finding:
    return Finding(id_, Severity.WARNING, message, remedy, prediction=True)


_UNFIT = {
    "PAUSED": ("Paused", "the server is paused, and Nova stops no paused server",
               "Unpause it and shut it down."),
    "SUSPENDED": ("Suspended", "the server is suspended, and Nova stops no suspended server",
                  "Resume it and shut it down."),
    "SHELVED": ("Shelved", "the server is shelved", "Unshelve it."),
    "SHELVED_OFFLOADED": ("Shelved", "the server is shelved: it is on no host", "Unshelve it."),
    "RESCUE": ("Rescued", "the server runs its rescue system", "Unrescue it."),
    "VERIFY_RESIZE": ("ResizeNotConfirmed", "the server was resized and waits for confirmation",
                      "Confirm or revert the resize."),
    "DELETED": ("Deleted", "the server is deleted", "Name another one."),
    "SOFT_DELETED": ("Deleted", "the server is deleted and waits to be reclaimed", "Restore it."),
}  # fmt: skip


def _of_state(vm: SourceVM, facts: ServerFacts) -> Iterator[Finding]:
    server = facts.server
    status = state.status_of(server)
    if status in _UNFIT:
        yield _critical(*_UNFIT[status])
    elif status == "ERROR":
        fault = (server.get("fault") or {}).get("message") or "Nova does not say why"
        yield _critical(
            "ServerInError",
            f"the server's status is ERROR: {fault}",
            "Repair it (nova reset-state, reboot), or set skipPreflightChecks to import what its disks hold.",
            prediction=True,
        )
    elif vm.power_state is PowerState.UNKNOWN:
        yield _critical(
            "PowerStateUnknown", f"whether the server runs is not known; its status is {status}",
            "Bring its host back, or reset the server's state.",
        )  # fmt: skip
    if state.is_locked(server) and vm.power_state is PowerState.ON:
        reason = f" ({server['locked_reason']})" if server.get("locked_reason") else ""
        yield _critical(
            "Locked",
            f"the server runs and is locked{reason}: it cannot be stopped",
            "Unlock it, or stop it yourself.",
            prediction=True,
        )


def _of_flavor(facts: ServerFacts) -> Iterator[Finding]:
    flavor = facts.flavor
    if not flavor.get("vcpus") or not flavor.get("ram"):
        yield _critical(
            "FlavorUnknown",
            "the server's flavor was deleted, and this Nova (before microversion 2.47) does not tell what it "
            "was",
            "Resize the server to a flavor that exists.",
        )
    ephemeral = flavor.get("ephemeral") or flavor.get("OS-FLV-EXT-DATA:ephemeral")  # embedded, or not
    for name, unit, value in (("ephemeral", "GiB", ephemeral), ("swap", "MiB", flavor.get("swap"))):
        size = int(value or 0)
        if size:
            yield _warning(
                f"{name.capitalize()}DiskNotCarriedOver",
                f"the server's {name} disk ({size} {unit}) is not imported: OpenStack offers no copy of it",
                "Move what is needed to a volume; give the new VM an empty disk where the guest expects one.",
            )


def _of_firmware(vm: SourceVM, facts: ServerFacts) -> Iterator[Finding]:
    if vm.firmware == "uefi":
        yield _warning(
            "EFIVariablesNotCarriedOver",
            "the server's EFI variables (boot entries, enrolled keys) stay behind",
            r"Make sure that the guest has the fallback loader \EFI\BOOT\BOOTX64.EFI.",
        )
    if vm.tpm:
        yield _warning(
            "TPMStateNotCarriedOver",
            "the server's virtual TPM is empty after the import",
            "Suspend BitLocker, or have the recovery keys of whatever is sealed to the TPM.",
        )
    machine = str(facts.hints.get("hw_machine_type") or "")
    if machine and "q35" not in machine:
        yield _warning(
            "MachineTypeNotCarriedOver",
            f"the server's machine type is {machine}; the new VM's is q35",
            "Expect other PCI addresses and, with them, other names of network cards.",
        )
    architecture = str(facts.hints.get("hw_architecture") or facts.hints.get("architecture") or "")
    if architecture and architecture not in ("x86_64", "amd64", "i686"):
        yield _critical(
            "ArchitectureNotSupported",
            f"the server's architecture is {architecture}; VMs are built for x86_64",
            "Set skipPreflightChecks if the cluster's nodes have that architecture.",
            prediction=True,
        )


def _of_cards(facts: ServerFacts) -> Iterator[Finding]:
    special = [
        str(port.get("name") or port["id"])
        for port in facts.ports
        if str(port.get("binding:vnic_type") or "normal") not in ("normal", "macvtap")
    ]
    if special:
        yield _warning(
            "SRIOV",
            f"direct (SR-IOV) ports become virtio cards: {', '.join(special)}",
            "Make sure that the guest has virtio drivers.",
        )
