"""Export: every disk's bytes are in scratch. The bytes move in the transfer pool; this step only conducts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from controller.api import conditions
from controller.api.phase import Phase
from controller.errors import StatusMissing, Verdict, classify
from controller.phases.base import (
    Advance,
    Changes,
    Context,
    Outcome,
    Progress,
    Wait,
    count,
    discard_export,
    false,
    format_bytes,
    true,
)
from controller.phases.ownership import delete_unfinished
from controller.transfers import DiskJob, TransferState, TransferStatus
from providers.base import Provider
from providers.model import PowerState, SourceVM

# The pool has tried a disk four times within seconds before it says that it failed: this is an outage.
RETRY_SECONDS = 30.0
AGAIN = f"tried again every {RETRY_SECONDS:.0f} s"
OF_IMAGES = frozenset(
    {"VirtualMachineImage", "imageAttempts", "diskConditions", "diskRoute", "diskLocalPath", "digest"}
)
NOTHING_READ = {"bytesTransferred": 0, "progress": 0}


def run(ctx: Context) -> Outcome:
    """Start what is not running, tell how far it is, go on when all disks are read.

    Raises:
        Exception: whatever a disk failed with that trying again cannot mend.
    """
    vmimport, vm, provider = ctx.vmimport, ctx.source_vm(), ctx.provider()
    if not conditions.is_true(vmimport.status.get("conditions") or (), conditions.SOURCE_POWERED_OFF):
        return _back_to_shutdown(ctx, provider, vm)
    states = [ctx.transfers.state(vmimport.uid, index) for index in range(len(vmimport.disks))]
    if not all(_done(state) for state in states):
        power = provider.power_state(vm)
        if power is not PowerState.OFF:
            return _doubt(ctx, power)
    failed = _retry_failed(ctx, states)
    if failed:
        provider = ctx.provider()  # another one, if that one lets nobody in any more
    # Those under way too: the source's limits may have been changed.
    unfinished = {index for index, state in enumerate(states) if not _done(state)}
    if unfinished:
        ctx.transfers.start(*(job for job in _jobs(ctx, provider, vm) if job.disk_index in unfinished))
        states = [ctx.transfers.state(vmimport.uid, index) for index in range(len(vmimport.disks))]
    if all(_done(state) for state in states):
        removing = discard_export(ctx, provider, vm, complete=True)
        if removing:
            return removing
        total = sum(int(entry["diskSize"]) for entry in vmimport.disks)
        return Advance(
            Phase.CONVERT,
            f"{count(len(states), 'disk')} read, {format_bytes(total)}",
            Changes(
                disks=disk_entries(ctx, states),
                progress=Progress(total, total),
                conditions=[true(conditions.DISKS_EXPORTED, "Exported")],
                old_conditions=[true(conditions.OLD_EXPORTED, "Exported")],
            ),
        )
    return _wait(ctx, states, failed)


def _wait(ctx: Context, states: list[TransferState | None], failed: list[Verdict]) -> Wait:
    """Tell how far the disks are, and what stands in their way."""
    progress = _progress(ctx.vmimport.disks, states)
    room = _room(ctx, states)
    by_disk = _by_disk(ctx, states)
    preparing = [f"disk {key}: {state.preparing}" for key, state in by_disk if state.preparing]
    held_up = bool(room) and not any(state.status is TransferStatus.RUNNING for _, state in by_disk)
    verdicts = {key: classify(state.error) for key, state in by_disk if state.error}
    errors = {key: verdict for key, verdict in verdicts.items() if verdict.retryable}  # else: the next pass
    trouble = "; ".join([*(f"disk {key}: {verdict.message}" for key, verdict in errors.items()), AGAIN])
    obstacles = [*([room] if room else []), *([trouble] if errors else [])]
    reason = "ScratchSpaceInsufficient" if held_up else "PreparingDisks" if preparing else "Exporting"
    if errors and all(_done(state) or state.error for _, state in by_disk):
        reason = next(iter(errors.values())).reason
    # Told once: how much room there is changes all the time, and attempts fail every half a minute.
    known = conditions.find(ctx.vmimport.status["conditions"], conditions.DISKS_EXPORTED) or {}
    events = []
    if held_up and known.get("reason") != reason:
        events.append(("Warning", "ScratchSpaceInsufficient", room))
    if errors and trouble not in known.get("message", ""):
        events.append(("Warning", next(iter(errors.values())).reason, trouble))
    return Wait(
        min([ctx.settings.progress_seconds, *(s.look_again for _, s in by_disk if s.look_again)]),
        reason,
        "; ".join([_sentence(progress, states), *preparing, *obstacles]),
        Changes(
            disks=disk_entries(ctx, states),
            progress=progress,
            conditions=[false(conditions.DISKS_EXPORTED, reason, "; ".join(obstacles))],
            events=events,
        ),
        retries=[verdict.reason for verdict in failed],
    )


def _room(ctx: Context, states: list[TransferState | None]) -> str:
    """Say which room on the scratch volume is waited for; empty: none."""
    needed = [state.needed_bytes for state in states if state and state.needed_bytes]
    if not needed:
        return ""
    return (
        f"{count(len(needed), 'disk')} waiting until {format_bytes(max(needed))} are free on the scratch "
        f"volume, now {format_bytes(ctx.scratch.free_bytes())}"
    )


def _by_disk(ctx: Context, states: list[TransferState | None]) -> list[tuple[str, TransferState]]:
    """Pair the disks that have a state with it."""
    pairs = zip(ctx.vmimport.disks, states, strict=True)
    return [(str(entry["sourceDisk"]), state) for entry, state in pairs if state is not None]


def _retry_failed(ctx: Context, states: list[TransferState | None]) -> list[Verdict]:
    """See to it that failed disks are tried again in a while; return what they failed with.

    Raises:
        Exception: a disk's error that trying again cannot mend.
    """
    failed = {
        index: state.error
        for index, state in enumerate(states)
        if state and state.error and state.status is TransferStatus.FAILED
    }
    verdicts = [(error, classify(error)) for error in failed.values()]
    for error, verdict in verdicts:
        if not verdict.retryable:
            raise error
    for error, _ in verdicts:
        ctx.connections.refused(ctx.vmimport.uid, error)
    ctx.transfers.retry_failures(ctx.vmimport.uid, failed.keys(), RETRY_SECONDS)
    return [verdict for _, verdict in verdicts]


def _doubt(ctx: Context, power: PowerState) -> Wait:
    """The VM is not known to be off. That it was switched on is noted first: it may be off again soon."""
    if power is PowerState.UNKNOWN:
        message = "the source does not tell for the moment whether the VM is off"
        return Wait(ctx.settings.progress_seconds, "PowerStateUnknown", message)
    message = f"the source VM is {power} again; what was read so far is dropped"
    return Wait(
        0,
        "PoweredOnAgain",
        message,
        Changes(
            conditions=[false(conditions.SOURCE_POWERED_OFF, "PoweredOnAgain", message)],
            events=[("Warning", "PoweredOnAgain", message)],
        ),
    )


def _back_to_shutdown(ctx: Context, provider: Provider, vm: SourceVM) -> Outcome:
    """Drop what was read of a VM that was switched on since: it is no longer its state.

    With it go images of an earlier pass through ImageUpload, which an import leaves that has lost a disk.
    """
    message = "what was read of the source VM before it was switched on is dropped"
    if not ctx.transfers.cancel(ctx.vmimport.uid):
        return Wait(1, "StoppingTransfers", message)
    removing = discard_export(ctx, provider, vm, complete=False)
    if removing:
        return removing
    delete_unfinished(ctx)
    ctx.transfers.discard(ctx.vmimport.uid)
    return Advance(
        Phase.SHUTDOWN,
        message,
        Changes(
            fields={"shutdownRequestedTime": None},
            disks=[
                {**{name: value for name, value in entry.items() if name not in OF_IMAGES}, **NOTHING_READ}
                for entry in ctx.vmimport.disks
            ],
        ),
    )


def _jobs(ctx: Context, provider: Provider, vm: SourceVM) -> list[DiskJob]:
    source = ctx.source()
    by_key = {disk.key: disk for disk in vm.disks}
    jobs = []
    for index, entry in enumerate(ctx.vmimport.disks):
        disk = by_key.get(entry["sourceDisk"])
        if disk is None:
            raise StatusMissing(f"status.sourceVM has no disk {entry['sourceDisk']!r}")
        jobs.append(
            DiskJob(
                import_uid=ctx.vmimport.uid,
                disk_index=index,
                size_bytes=disk.size_bytes,
                source_key=source.key,
                source_limit=source.max_transfers or ctx.settings.max_transfers_per_source,
                open=functools.partial(provider.open_disk, vm, disk, ctx.vmimport.export_id),
                expected_bytes=min(disk.allocated_bytes or 0, disk.size_bytes),
                source_bytes_per_second=source.max_bytes_per_second,
                log_context={
                    "namespace": ctx.vmimport.namespace,
                    "name": ctx.vmimport.name,
                    "phase": Phase.EXPORT.value,
                },
            )
        )
    return jobs


def disk_entries(ctx: Context, states: list[TransferState | None]) -> list[Mapping[str, Any]]:
    """Return `diskImportStatus` with how far each disk is."""
    entries: list[Mapping[str, Any]] = []
    for entry, state in zip(ctx.vmimport.disks, states, strict=True):
        size = int(entry["diskSize"])
        if state is None:
            entries.append(entry)
            continue
        done = size if _done(state) else state.bytes_done
        fields: dict[str, Any] = {
            "bytesTransferred": done,
            "progress": 100 * done // size if size else 100,
        }
        if state.result:
            fields |= {"diskLocalPath": str(state.result.path), "digest": state.result.digest}
        entries.append({**entry, **fields})
    return entries


def _progress(disks: list[dict[str, Any]], states: list[TransferState | None]) -> Progress:
    total = sum(int(entry["diskSize"]) for entry in disks)
    done = sum(
        (int(entry["diskSize"]) if _done(state) else state.bytes_done) if state else 0
        for entry, state in zip(disks, states, strict=True)
    )
    rates = [state.bytes_per_second for state in states if state and state.bytes_per_second]
    return Progress(done, total, sum(rates) or None)


def _sentence(progress: Progress, states: list[TransferState | None]) -> str:
    running = sum(1 for state in states if _under_way(state))
    done = sum(1 for state in states if _done(state))
    read = f"read {format_bytes(progress.bytes_transferred)} of {format_bytes(progress.bytes_total)}"
    how = ", ".join(words for words in (read, progress.pace()) if words)
    return f"{how}; {done} of {count(len(states), 'disk')} done, {running} under way"


def _done(state: TransferState | None) -> bool:
    return state is not None and state.status is TransferStatus.DONE


def _under_way(state: TransferState | None) -> bool:
    return state is not None and not _done(state) and state.error is None
