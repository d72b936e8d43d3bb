"""Reading what `machine.to_source_vm` needs: the VM, the names of the networks, the account's rights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from providers.model import Finding, Severity, SourceVM
from providers.vmware import devices, machine, properties

if TYPE_CHECKING:
    from providers.vmware.inventory import Datacenter
    from providers.vmware.session import Session

# vSphere Security, "Defined Privileges": what an import does to its source.
PRIVILEGES = {
    "VirtualMachine.Interact.PowerOff": "shut the VM down",
    "VirtualMachine.Interact.PowerOn": "switch it on again when the import fails",
    "VApp.Export": "export it",
}


def describe(session: Session, datacenter: Datacenter, moref: str) -> SourceVM:
    """Return the VM with its findings.

    Raises:
        SourceVMNotFound: it is gone.
        PermissionDenied: the account may not read it.
    """
    reference = session.managed_object(vim.VirtualMachine, moref)
    what = f"read virtual machine {moref}"
    networks, known = _networks(session, datacenter)
    vm = machine.to_source_vm(moref, properties.read(session, what, reference, machine.PROPERTIES), networks)
    missing = _missing_privileges(session, reference)
    return dataclasses.replace(vm, findings=(*missing, *vm.findings), known_networks=known)


def _networks(session: Session, datacenter: Datacenter) -> tuple[devices.Networks, tuple[str, ...]]:
    """Return the names behind keys, and all names of networks in the datacenter."""
    what = "list networks"
    references = properties.read(session, what, datacenter.reference, ["network"]).get("network") or ()
    listed = properties.read_many(
        session,
        what,
        references,
        {
            vim.Network: ["name"],
            vim.dvs.DistributedVirtualPortgroup: [
                "name",
                "key",
                "config.distributedVirtualSwitch",
                "config.uplink",
            ],
            vim.OpaqueNetwork: ["name", "summary"],
        },
    )
    switches = {
        found["config.distributedVirtualSwitch"]
        for _, found in listed
        if "config.distributedVirtualSwitch" in found
    }
    switch_names = {
        switch: found.get("name", "")
        for switch, found in properties.read_many(
            session, what, list(switches), {vim.DistributedVirtualSwitch: ["name"]}
        )
    }
    portgroups: dict[str, tuple[str, ...]] = {}
    opaque: dict[str, tuple[str, ...]] = {}
    known: list[str] = []
    for _, found in listed:
        if "name" not in found or found.get("config.uplink"):  # uplinks are for hosts only
            continue
        switch = switch_names.get(found.get("config.distributedVirtualSwitch"), "")
        called = devices.network_names(found["name"], switch)
        known += called
        if "key" in found:
            portgroups[found["key"]] = called
        identifier = getattr(found.get("summary"), "opaqueNetworkId", None)
        if identifier:
            opaque[identifier] = called
    return devices.Networks(portgroups, opaque), tuple(dict.fromkeys(known))


def _missing_privileges(session: Session, vm: Any) -> tuple[Finding, ...]:
    """Return a finding that names what the account may not do; none where the server cannot tell."""

    def ask() -> list[str]:
        authorization = session.content.authorizationManager
        try:
            answers = authorization.HasPrivilegeOnEntities([vm], session.key, list(PRIVILEGES))
        except (vmodl.fault.NotSupported, vmodl.fault.MethodNotFound, vmodl.fault.NotImplemented):
            return []
        return [p.privId for entity in answers for p in entity.privAvailability if not p.isGranted]

    missing = session.call("check privileges", ask)
    if not missing:
        return ()
    wanted = ", ".join(f"{name} (to {PRIVILEGES[name]})" for name in missing)
    return (
        Finding(
            id="PrivilegesMissing",
            severity=Severity.CRITICAL,
            message=f"the account lacks privileges on the VM: {wanted}",
            remedy="Give the account a role that has them, on the VM or above it.",
            prediction=True,
        ),
    )
