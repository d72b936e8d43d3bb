"""Putting things back: what an import that ended early leaves behind at the source, in scratch and here.

Runs when an import is deleted, when it has failed, and before it starts again. Every part is idempotent and
looks before it acts, so that it may be killed and run again anywhere.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from controller import kinds
from controller.api import conditions, names
from controller.api.phase import Phase
from controller.errors import SourceNotFound
from controller.kube.errors import NotFound
from controller.phases import source_power
from controller.phases.base import Changes, Context, Outcome, Stop, Wait, false, true
from controller.phases.ownership import delete_unfinished, release
from providers.errors import DiscardNotDone, ProviderError, SourceVMNotFound

CLEANED_UP = "CleanedUp"
_TOUCHED_SOURCE = frozenset(
    {Phase.SHUTDOWN, Phase.EXPORT, Phase.CONVERT, Phase.IMAGE_UPLOAD, Phase.VM_CREATE, Phase.FAILED}
)


def run(ctx: Context) -> Outcome:
    """Clean up after a failed import, once; the condition `CleanedUp` remembers it.

    Raises:
        Exception: what the source or the cluster said; it is tried again until it succeeds.
    """
    if conditions.is_true(ctx.vmimport.status.get("conditions") or (), CLEANED_UP):
        return Stop()
    try:
        undone = undo(ctx, restore_power=True)
    except DiscardNotDone as exc:
        return Wait(exc.retry_after, exc.reason, str(exc))
    if undone is None:
        return Wait(1, "CleaningUp", "waiting for transfers to stop")
    changed = [true(CLEANED_UP, "CleanedUp", f"nothing is left of the attempt{undone.of_power(ctx)}")]
    if undone.source_is_on:
        message = "switched on again after the import had failed"
        changed.append(false(conditions.SOURCE_POWERED_OFF, "PowerRestored", message))
    return Stop(Changes(conditions=changed))


@dataclass(frozen=True, slots=True)
class Undone:
    """What has become of the source VM when all was undone.

    Attributes:
        source_is_on: It was on before the import, and is on again.
    """

    source_is_on: bool

    def of_power(self, ctx: Context) -> str:
        """Say how the source VM stands, where people might expect something else."""
        if self.source_is_on:
            return "; the source VM is on again"
        if ctx.powered_on_before() and not ctx.vmimport.spec.restore_source_power:
            return "; the source VM is left as it is, as spec.onFailure.restoreSourcePower says"
        return ""


def undo(ctx: Context, *, restore_power: bool) -> Undone | None:
    """Undo all that this run has made and that its VM does not use.

    Args:
        ctx: The pass.
        restore_power: Also switch the source VM on again, if we switched it off and the user wants that.

    Returns:
        `None`: transfers are still being stopped, and it is to be called again soon.

    Raises:
        DiscardNotDone: the source is still removing what the export has made there; to be called again.
    """
    vmimport = ctx.vmimport
    if not ctx.transfers.cancel(vmimport.uid):
        _stop_waiting_for_source(ctx)
        return None
    source_is_on = False
    if has_vm(ctx):
        release_disks(ctx)
    else:
        source_is_on = _undo_at_source(ctx, restore_power=restore_power)
        delete_unfinished(ctx)
    ctx.transfers.discard(vmimport.uid)
    ctx.connections.release(vmimport.uid)
    return Undone(source_is_on)


def has_vm(ctx: Context) -> bool:
    """Tell whether the VM of this run exists."""
    vmimport = ctx.vmimport
    if not vmimport.target_name:
        return False
    try:
        vm = ctx.kube.get(kinds.VIRTUAL_MACHINES, vmimport.target_name, vmimport.namespace)
    except NotFound:
        return False
    labels = vm["metadata"].get("labels") or {}
    return bool(
        labels.get(names.LABEL_IMPORT_UID) == vmimport.uid and labels.get(names.LABEL_RUN) == vmimport.run
    )


def release_disks(ctx: Context) -> None:
    """See to it that nothing the VM uses depends on the import any more."""
    for entry in ctx.vmimport.disks:
        name = entry.get("VirtualMachineImage")
        if name:
            release(ctx, kinds.IMAGES, name)
            release(ctx, kinds.PVCS, name)


def _source_touched(ctx: Context) -> bool:
    vmimport = ctx.vmimport
    return vmimport.phase in _TOUCHED_SOURCE and bool(vmimport.status.get("sourcePowerState"))


def _stop_waiting_for_source(ctx: Context) -> None:
    """End the export under jobs that may still wait for the source to prepare it, which can take minutes.

    Whatever comes of it, the export is discarded again when they have ended.
    """
    if _source_touched(ctx):
        with contextlib.suppress(ProviderError):
            _discard_export(ctx)


def _undo_at_source(ctx: Context, *, restore_power: bool) -> bool:
    """Give back what is held at the source, and power; return whether the source VM is on because of that."""
    removing: DiscardNotDone | None = None
    if _source_touched(ctx):
        try:
            _discard_export(ctx)
        except DiscardNotDone as exc:
            removing = exc  # the source goes on with it, and the machine need not stand still for it
    source_is_on = restore_power and source_power.give_back(ctx)
    if removing:
        raise removing
    return source_is_on


def _discard_export(ctx: Context) -> None:
    if not ctx.vmimport.status.get("sourceVM"):
        ctx.log.warning("status does not say any more what was exported; nothing is discarded at the source")
        return
    vm = ctx.source_vm()
    try:
        ctx.provider().discard_export(vm, ctx.vmimport.export_id, complete=False)
    except (SourceNotFound, SourceVMNotFound) as exc:
        # Nobody can ever reach it again; waiting would block the deletion for ever.
        ctx.log.warning("nothing can be discarded at the source", error=str(exc))
