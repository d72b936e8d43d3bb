"""The step: one look at everything, and the verdict."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from controller import builders
from controller.api import conditions
from controller.api.phase import Phase
from controller.api.types import VirtualMachineImport
from controller.errors import PreflightFailed, SourceNotReady, classify
from controller.phases import source_power
from controller.phases.base import Advance, Changes, Context, Outcome, Wait, count, format_bytes, true
from controller.phases.preflight import machine, target
from controller.phases.preflight.findings import critical
from controller.phases.preflight.networks import check_networks
from providers.errors import SourceVMNotFound, SourceVMNotUnique
from providers.model import Finding, Severity, SourceDisk, SourceVM


def run(ctx: Context) -> Outcome:
    """Check everything, choose the VM's name and the order of its disks.

    What an earlier run has switched off stays off for this one, unless it is another machine that is wanted
    now, or nothing comes of it.

    Raises:
        SourceNotReady: the source was not verified (yet).
        PreflightFailed: the message lists every critical finding.
    """
    if ctx.vmimport.reads != ctx.vmimport.wanted:
        source_power.give_back(ctx)
        message = "another VM is to be imported now; the one before is as it was"
        return Wait(0, "AnotherVMWanted", message, Changes(fields=dict.fromkeys(source_power.DEBT)))
    try:
        return _examine(ctx)
    except Exception as exc:
        if not classify(exc).retryable:
            source_power.give_back(ctx)
        raise


def _examine(ctx: Context) -> Outcome:
    source = ctx.source()
    if not source.ready:
        why = conditions.find(source.status.get("conditions") or (), conditions.READY) or {}
        raise SourceNotReady(
            f"{source.kind} {source.namespace}/{source.name} is not ready: "
            + (why.get("message") or "it was not verified yet")
        )
    # What an earlier run left in scratch belongs to another reading of the source. If somebody has emptied
    # status, it may be at work still.
    if not ctx.transfers.cancel(ctx.vmimport.uid):
        return Wait(1, "StoppingTransfers", "what an earlier run reads is being stopped")
    ctx.transfers.discard(ctx.vmimport.uid)
    vmimport = ctx.vmimport
    findings: list[Finding] = []
    vm: SourceVM | None = None
    try:
        vm = ctx.provider().inspect(vmimport.spec.vm_name, vmimport.spec.folder)
    except (SourceVMNotFound, SourceVMNotUnique) as exc:
        findings.append(critical(exc.reason, str(exc), "Correct spec.virtualMachineName or spec.folder."))
    disks = machine.chosen_disks(vmimport, vm) if vm else ()
    choices, missing = target.choose_classes(ctx, disks)
    findings += missing
    findings += check_networks(ctx, vm)
    name = ""
    if vm is not None:
        findings += vm.findings
        findings += machine.check_disks(vmimport, vm, disks)
        findings += machine.check_power(vmimport, vm)
        findings += machine.check_clock(vm)
        findings += machine.check_scratch(ctx, disks)
        name = vmimport.spec.target_name or builders.target_name(vm.name)
        findings += target.check_macs(ctx, vm)
        findings += target.check_quota(ctx, vm, disks, choices)
        findings += target.check_name(ctx, vm, name)
        if not _blocking(vmimport, findings):  # who is Invalid anyway keeps no name from others
            findings += target.claim_name(ctx, name)
    blocking = _blocking(vmimport, findings)
    if blocking or vm is None:
        raise PreflightFailed("; ".join(finding.message for finding in blocking), findings=findings)
    return Advance(
        Phase.SHUTDOWN,
        f"{count(len(disks), 'disk')}, {format_bytes(sum(disk.size_bytes for disk in disks))} in all",
        Changes(
            preflight=findings,
            fields={
                "runID": secrets.token_hex(3),
                "startTime": conditions.timestamp(ctx.clock.now()),
                "source": vmimport.wanted,
                **_how_it_was(ctx, vm),
                "sourceVM": replace(vm, findings=(), known_networks=()).to_dict(),
                "importedVirtualMachineName": name,
            },
            disks=[_disk_status(vmimport, disk) for disk in disks],
            conditions=[true(conditions.PREFLIGHT_PASSED, "ChecksPassed", _warnings(findings))],
            events=[
                ("Warning", finding.id, finding.message)
                for finding in findings
                if finding.severity is Severity.WARNING
            ],
        ),
    )


def _how_it_was(ctx: Context, vm: SourceVM) -> dict[str, Any]:
    """Return the fields to change so that no machine is taken for one that an earlier run switched off."""
    if not ctx.vmimport.status.get("sourceVM"):
        return {}
    before = ctx.source_vm()
    return {} if (before.id, before.uuid) == (vm.id, vm.uuid) else {"sourcePowerState": None}


def _blocking(vmimport: VirtualMachineImport, findings: Sequence[Finding]) -> list[Finding]:
    return [
        finding
        for finding in findings
        if finding.severity is Severity.CRITICAL and not (finding.prediction and vmimport.spec.skip_preflight)
    ]


def _disk_status(vmimport: VirtualMachineImport, disk: SourceDisk) -> dict[str, Any]:
    return {
        "diskName": disk.name,
        "diskSize": disk.size_bytes,
        "busType": builders.disk_bus(vmimport, disk),
        "sourceDisk": disk.key,
    }


def _warnings(findings: list[Finding]) -> str:
    """Return which warnings there are; what each says stands in `status.preflight` and in an Event."""
    identifiers = [finding.id for finding in findings if finding.severity is Severity.WARNING]
    return f"{count(len(identifiers), 'warning')}: {', '.join(identifiers)}" if identifiers else ""
