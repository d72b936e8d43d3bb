"""WaitForVM: the new machine runs, or exists, if it is meant to stay off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from controller import kinds
from controller.api import conditions, names
from controller.api.phase import Phase
from controller.errors import StepError
from controller.kube.errors import NotFound
from controller.phases.base import Advance, Changes, Context, Outcome, Wait, false, true

POLL_SECONDS = 15.0  # the VM's own events wake the import; this is for lost ones
SLOW_AFTER = timedelta(minutes=10)
NEVER_STARTED_BY_US = frozenset({"Halted", "Manual"})


class VirtualMachineGone(StepError):
    """Surfaces when somebody deleted the new VM before it ran."""

    reason = "VirtualMachineGone"


def run(ctx: Context) -> Outcome:
    """Look at the VM's readiness.

    Raises:
        VirtualMachineGone: it does not exist any more.
    """
    vmimport = ctx.vmimport
    name = vmimport.target_name
    try:
        vm = ctx.kube.get(kinds.VIRTUAL_MACHINES, name, vmimport.namespace)
    except NotFound as exc:
        raise VirtualMachineGone(f"VirtualMachine {vmimport.namespace}/{name} was deleted") from exc
    if vmimport.spec.run_strategy in NEVER_STARTED_BY_US:
        message = f"the run strategy is {vmimport.spec.run_strategy}"
        return Advance(
            Phase.SUCCEEDED,
            f"VirtualMachine {vmimport.namespace}/{name} is created and left off",
            Changes(conditions=[false(conditions.VM_RUNNING, "NotStarted", message)]),
        )
    if (vm.get("status") or {}).get("ready"):
        return Advance(
            Phase.SUCCEEDED,
            f"VirtualMachine {vmimport.namespace}/{name} is running",
            Changes(conditions=[true(conditions.VM_RUNNING, "Running")]),
        )
    why = explain(vm)
    slow = ctx.clock.now() - ctx.in_phase_since() >= SLOW_AFTER
    reason = "NotReadyInTime" if slow else "Starting"
    known = conditions.find(vmimport.status.get("conditions") or (), conditions.VM_RUNNING) or {}
    news = slow and known.get("reason") != reason
    return Wait(
        POLL_SECONDS,
        "StartingVM",
        f"waiting for VirtualMachine {name} to run: {why}",
        Changes(
            conditions=[false(conditions.VM_RUNNING, reason, why)],
            events=[("Warning", reason, f"VirtualMachine {name} does not run: {why}")] if news else (),
        ),
    )


def explain(vm: Mapping[str, Any]) -> str:
    """Return in the VM's own words why it does not run."""
    status = vm.get("status") or {}
    words = [str(status.get("printableStatus") or "not started yet")]
    words += [
        f"{entry['type']}: {entry.get('message') or entry.get('reason')}"
        for entry in status.get("conditions") or ()
        if entry.get("status") == conditions.FALSE and (entry.get("message") or entry.get("reason"))
    ]
    # Harvester sets the run strategy to Halted where a quota is too small, and says so nowhere else (v1.6.0,
    # `pkg/controller/master/virtualmachine/vm_controller.go`).
    if quota := (vm["metadata"].get("annotations") or {}).get(names.ANNOTATION_QUOTA):
        words.append(f"Harvester has stopped it: {quota}")
    return "; ".join(words)
