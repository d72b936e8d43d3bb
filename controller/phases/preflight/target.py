"""Checks of what is to be made: the VM's name, its MAC addresses, storage and quotas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from controller import builders, kinds
from controller.api import names
from controller.kube.errors import NotFound
from controller.kube.quantity import parse_quantity
from controller.phases.base import Context
from controller.phases.preflight.findings import critical, prediction
from controller.phases.storage import StorageClassMissing, choose_storage
from controller.storage_class import StorageChoice
from providers.model import Finding, SourceDisk, SourceVM


def choose_classes(
    ctx: Context, disks: Sequence[SourceDisk]
) -> tuple[dict[str, StorageChoice], list[Finding]]:
    """Return the StorageClass of each disk by its key, and what is to be said of those that cannot be used.

    Without a disk the import's own choice is looked up all the same: it may be wrong whatever the VM is.
    """
    known: dict[str | None, StorageChoice | str] = {}
    choices: dict[str, StorageChoice] = {}
    wanted: list[SourceDisk | None] = [*disks] if disks else [None]
    for disk in wanted:
        exception = builders.find_disk_mapping(ctx.vmimport, disk) if disk is not None else None
        named = exception.storage_class if exception else None
        if named not in known:
            try:
                known[named] = choose_storage(ctx, disk)
            except StorageClassMissing as exc:
                known[named] = str(exc)
        choice = known[named]
        if disk is not None and isinstance(choice, StorageChoice):
            choices[disk.key] = choice
    missing = dict.fromkeys(choice for choice in known.values() if isinstance(choice, str))
    remedy = "Create the StorageClass or name another one."
    findings = [prediction("StorageClassNotFound", message, remedy) for message in missing]
    return choices, [*findings, *_unusable(known.values())]


def _unusable(choices: Iterable[StorageChoice | str]) -> list[Finding]:
    remedy = "Name another StorageClass: one of Longhorn's that does not encrypt, or of another provisioner."
    objections = {
        choice.class_name: choice.objection
        for choice in choices
        if isinstance(choice, StorageChoice) and choice.objection
    }
    return [
        prediction("StorageClassUnusable", f"StorageClass {name!r} cannot be used: {why}", remedy)
        for name, why in objections.items()
    ]


def check_name(ctx: Context, vm: SourceVM, target: str) -> list[Finding]:
    """Check that the new VM's name is one, that it is free, and that no other import is about to take it."""
    namespace = ctx.vmimport.namespace
    if not target:
        message = f"no valid name can be made of {vm.name!r}"
        return [critical("TargetNameInvalid", message, "Set spec.targetName.")]
    try:
        existing = ctx.kube.get(kinds.VIRTUAL_MACHINES, target, namespace)
    except NotFound:
        return _claimed(ctx, target, ctx.targets.rival(ctx.vmimport, target))
    uid = (existing["metadata"].get("labels") or {}).get(names.LABEL_IMPORT_UID)
    ours = " and was made by an earlier run of this import" if uid == ctx.vmimport.uid else ""
    message = f"VirtualMachine {namespace}/{target} exists already{ours}"
    return [critical("TargetNameTaken", message, "Delete that VM, or set another spec.targetName.")]


def claim_name(ctx: Context, target: str) -> list[Finding]:
    """Take the name for this import, which passes otherwise; of two at the same moment one gets it."""
    return _claimed(ctx, target, ctx.targets.claim(ctx.vmimport, target))


def _claimed(ctx: Context, target: str, rival: str | None) -> list[Finding]:
    if rival is None:
        return []
    message = f"import {rival} is under way and makes VirtualMachine {ctx.vmimport.namespace}/{target}"
    remedy = "Set another spec.targetName, or delete one of the two imports."
    return [critical("TargetNameClaimed", message, remedy)]


def check_macs(ctx: Context, vm: SourceVM) -> list[Finding]:
    """Check that no VM here has a MAC address of the source VM: Harvester refuses duplicates."""
    macs = {nic.mac.lower() for nic in vm.nics if nic.mac}
    if not macs:
        return []
    taken: dict[str, str] = {}
    for other in ctx.kube.list(kinds.VIRTUAL_MACHINES):
        domain = ((other["spec"].get("template") or {}).get("spec") or {}).get("domain") or {}
        for interface in (domain.get("devices") or {}).get("interfaces") or ():
            mac = (interface.get("macAddress") or "").lower()
            if mac in macs:
                taken[mac] = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
    return [
        prediction(
            "MACAddressTaken",
            f"VirtualMachine {owner} has MAC address {mac}, as the source VM",
            "Delete that VM, or change the address of one of them.",
        )
        for mac, owner in sorted(taken.items())
    ]


def check_quota(
    ctx: Context, vm: SourceVM, disks: Sequence[SourceDisk], choices: Mapping[str, StorageChoice]
) -> list[Finding]:
    """Check that the namespace's ResourceQuotas have room for the volumes and the VM.

    Quotas with scopes are left alone: which pods they count is not known before there is one. KubeVirt adds
    an overhead of its own to the VM's memory, so that a quota may still turn out too small by that.
    """
    needs = _needs(ctx, vm, disks, choices)
    findings = []
    for quota in ctx.kube.list(kinds.QUOTAS, ctx.vmimport.namespace):
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue
        status = quota.get("status") or {}
        for resource, hard in sorted((status.get("hard") or quota["spec"].get("hard") or {}).items()):
            used = (status.get("used") or {}).get(resource, "0")
            need = needs.get(resource)
            if need is not None and parse_quantity(used) + need > parse_quantity(hard):
                message = (
                    f"ResourceQuota {quota['metadata']['name']} allows {hard} of {resource}, of which {used} "
                    f"are used; the VM needs {_plain(need)}"
                )
                remedy = "Raise the quota, free some of it, or import into another namespace."
                findings.append(prediction("QuotaExceeded", message, remedy))
    return findings


def _needs(
    ctx: Context, vm: SourceVM, disks: Sequence[SourceDisk], choices: Mapping[str, StorageChoice]
) -> dict[str, Decimal]:
    """Return what will be counted, by the words of ResourceQuota (Kubernetes docs, "Resource Quotas")."""
    spec = ctx.vmimport.spec
    needs = {
        "count/virtualmachines.kubevirt.io": Decimal(1),
        "count/virtualmachineimages.harvesterhci.io": Decimal(len(disks)),
        "count/persistentvolumeclaims": Decimal(len(disks)),
        "persistentvolumeclaims": Decimal(len(disks)),
        "requests.storage": Decimal(sum(disk.size_bytes for disk in disks)),
    }
    for disk in disks:
        choice = choices.get(disk.key)
        if choice and choice.backend == "cdi":  # Longhorn makes a class for each of its backing images
            word = f"{choice.class_name}.storageclass.storage.k8s.io"
            for resource, amount in (("requests.storage", disk.size_bytes), ("persistentvolumeclaims", 1)):
                key = f"{word}/{resource}"
                needs[key] = needs.get(key, Decimal(0)) + amount
    if spec.run_strategy != "Halted":
        memory = parse_quantity(spec.override_memory) if spec.override_memory else vm.memory_mib << 20
        needs["limits.cpu"] = Decimal(spec.override_cpu_cores or vm.cpu_count)
        needs["limits.memory"] = Decimal(memory)
        needs["pods"] = needs["count/pods"] = Decimal(1)
    return needs


def _plain(amount: Decimal) -> str:
    """Return an amount as quotas are written: whole mebibytes where it is that, else the number."""
    mebibytes, rest = divmod(int(amount), 1 << 20)
    return f"{mebibytes}Mi" if mebibytes and not rest else f"{amount.normalize():f}"
