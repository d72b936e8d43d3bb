"""The one function that makes the next status of an import, and the words derived from it. Pure.

`phase` is the bookmark; `importStatus`, `importConditions` and `conditions` follow from (phase, outcome) here
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from controller.api import conditions
from controller.api.conditions import FALSE, SUCCEEDED, TRUE, UNKNOWN, condition, timestamp
from controller.api.phase import TERMINAL, TRANSITIONS, Phase
from controller.api.types import VirtualMachineImport
from controller.errors import Verdict
from controller.phases.base import Advance, Changes, Outcome, Wait
from controller.phases.source_power import DEBT
from controller.phases.table import STEPS

Status = dict[str, Any]

_PLAIN_WORDS: Final = {
    Phase.PREFLIGHT: "",
    Phase.EXPORT: "sourceReady",
    Phase.CONVERT: "sourceReady",
    Phase.VM_CREATE: "diskImagesReady",
    Phase.WAIT_FOR_VM: "virtualMachineCreated",
    Phase.INVALID: "virtualMachineImportInvalid",
    Phase.FAILED: "VMMigrationFailed",
}

_OF_READING: Final = ("bytesPerSecond", "etaSeconds")

_ADOPTED: Final = {
    "virtualMachineRunning": Phase.SUCCEEDED,
    "virtualMachineCreated": Phase.WAIT_FOR_VM,
    "virtualMachineImportInvalid": Phase.INVALID,
    "VMMigrationFailed": Phase.FAILED,
}


def import_status(phase: Phase, status: Mapping[str, Any]) -> str:
    """Return the old controller's word for a phase, given the rest of the status."""
    if phase is Phase.SHUTDOWN:
        looked = conditions.find(status.get("conditions") or (), conditions.SOURCE_POWERED_OFF)
        return "sourceReady" if looked else "virtualMachineImportValid"
    if phase is Phase.IMAGE_UPLOAD:
        disks = [entry.get("diskConditions") or () for entry in status.get("diskImportStatus") or ()]
        if any(conditions.is_true(disk, conditions.IMAGE_FAILED) for disk in disks):
            return "diskImageFailed"
        submitted = all(conditions.is_true(disk, conditions.IMAGE_SUBMITTED) for disk in disks)
        return "diskImageSubmitted" if submitted else "disksExported"
    if phase is Phase.SUCCEEDED:
        running = conditions.is_true(status.get("conditions") or (), conditions.VM_RUNNING)
        return "virtualMachineRunning" if running else "virtualMachineCreated"
    return _PLAIN_WORDS[phase]


def next_status(vmimport: VirtualMachineImport, outcome: Outcome | Verdict, now: datetime) -> Status:
    """Return the status after a pass; equal to the stored one when nothing has changed.

    Args:
        vmimport: The import as it was read for this pass.
        outcome: What its step answered, or what the exception that it raised means.
        now: For the times.

    Raises:
        ValueError: the step wants a move that `TRANSITIONS` does not have.
    """
    here = stored_phase(vmimport)
    changes = _of_verdict(here, outcome) if isinstance(outcome, Verdict) else outcome.changes
    status = _apply(dict(vmimport.status), changes, now, vmimport.generation)
    there, extra = _move(here, outcome)
    if there is not here and there not in TRANSITIONS[here]:
        raise ValueError(f"no move from {here} to {there}")
    status["conditions"] = conditions.merge(status.get("conditions") or (), extra, now, vmimport.generation)
    if there is not here or "phaseStartTime" not in status:
        status["phaseStartTime"] = timestamp(now)
    if there in TERMINAL and here not in TERMINAL:
        status["completionTime"] = timestamp(now)
    if there is Phase.EXPORT is not here:
        status.pop("progress", None)  # what was read before, and is lost, does not count
    if there is Phase.INVALID:
        for name in DEBT:  # Preflight has put back what an earlier run had switched off
            status.pop(name, None)
    status["phase"] = there.value
    status["observedGeneration"] = vmimport.generation
    status["importStatus"] = import_status(there, status)
    if changes.progress is None and "progress" in status:
        # Nothing is read in this pass: how fast it was, and when it would have ended, is no longer true.
        status["progress"] = {name: n for name, n in status["progress"].items() if name not in _OF_READING}
    if here is there and changes.progress:
        status["progress"]["percent"] = max(
            status["progress"]["percent"], (vmimport.status.get("progress") or {}).get("percent", 0)
        )
    return status


def stored_phase(vmimport: VirtualMachineImport) -> Phase:
    """Return the phase an import is in; that of an object of the old controller follows from its word.

    What the old controller left half-way starts over: its files are not in our scratch volume.
    """
    return vmimport.phase or _ADOPTED.get(vmimport.status.get("importStatus") or "", Phase.PREFLIGHT)


def adopted(vmimport: VirtualMachineImport, now: datetime) -> Status | None:
    """Return the first status of ours for an object of the old controller; `None` when it is none.

    What had come to an end, or to a VM, keeps its word and its old fields. What was under way starts over.
    """
    word = vmimport.status.get("importStatus")
    if vmimport.phase is not None or not word:
        return None
    phase = stored_phase(vmimport)
    status: Status = {} if phase is Phase.PREFLIGHT else dict(vmimport.status)
    known = {
        Phase.SUCCEEDED: [
            condition(SUCCEEDED, TRUE, "Adopted", "the controller that ran before has imported it"),
            condition(conditions.VM_CREATED, TRUE, "Adopted"),
            condition(conditions.VM_RUNNING, TRUE, "Adopted"),
        ],
        Phase.WAIT_FOR_VM: [
            condition(SUCCEEDED, UNKNOWN, "Adopted", "the controller that ran before has created the VM"),
            condition(conditions.VM_CREATED, TRUE, "Adopted"),
        ],
        Phase.INVALID: [
            condition(SUCCEEDED, FALSE, "Adopted", "the controller that ran before found it invalid"),
        ],
        Phase.FAILED: [
            condition(SUCCEEDED, FALSE, "Adopted", "the controller that ran before has failed"),
            condition("CleanedUp", TRUE, "Adopted", "what that controller made is not known"),
        ],
    }.get(phase, [condition(SUCCEEDED, UNKNOWN, "Adopted", f"taken over at {word}; it starts over")])
    if phase is not Phase.PREFLIGHT:
        status.setdefault(
            "importedVirtualMachineName", status.get("newVirtualMachine") or vmimport.spec.vm_name.lower()
        )
    status["conditions"] = conditions.merge(status.get("conditions") or (), known, now, vmimport.generation)
    status |= {
        "phase": phase.value,
        "phaseStartTime": timestamp(now),
        "observedGeneration": vmimport.generation,
        "importStatus": import_status(phase, status),
    }
    return status


def restarted(vmimport: VirtualMachineImport, *, has_vm: bool) -> Status:
    """Return the status with which an import starts again.

    It still has to know which machine it has switched off, unless that was settled: by a VM of ours that has
    taken its place, or by cleaning up.
    """
    status = vmimport.status
    cleaned_up = conditions.is_true(status.get("conditions") or (), "CleanedUp")
    if has_vm or (cleaned_up and vmimport.spec.restore_source_power):
        return {}
    return {name: status[name] for name in DEBT if name in status}


def wants_restart(vmimport: VirtualMachineImport) -> bool:
    """Tell whether the user asks for a new start: cleared `importStatus`, or edited what had ended badly."""
    phase, status = vmimport.phase, vmimport.status
    if phase in (None, Phase.PREFLIGHT):
        return False
    if not status.get("importStatus"):
        return True
    edited = int(status.get("observedGeneration") or 0) != vmimport.generation
    return edited and phase in (Phase.INVALID, Phase.FAILED)


def _move(here: Phase, outcome: Outcome | Verdict) -> tuple[Phase, list[Mapping[str, Any]]]:
    """Return where the import goes, and the conditions that follow from going there."""
    if isinstance(outcome, Verdict):
        if outcome.retryable:
            return here, [_summary(here, UNKNOWN, outcome.reason, outcome.message)]
        there = Phase.INVALID if here is Phase.PREFLIGHT else Phase.FAILED
        extra = [_summary(there, FALSE, outcome.reason, outcome.message)]
        earns = STEPS[here].earns
        if earns:
            extra.append(condition(earns, FALSE, outcome.reason, outcome.message))
        return there, extra
    if isinstance(outcome, Advance):
        ok = TRUE if outcome.to is Phase.SUCCEEDED else UNKNOWN
        return outcome.to, [_summary(outcome.to, ok, outcome.to.value, outcome.message)]
    if isinstance(outcome, Wait):
        return here, [_summary(here, UNKNOWN, outcome.reason, outcome.message)]
    return here, []


def _of_verdict(here: Phase, verdict: Verdict) -> Changes:
    """Return what an error leaves in status besides its condition."""
    ended = here is Phase.EXPORT and not verdict.retryable
    return Changes(
        preflight=verdict.findings or None,
        old_conditions=(
            [condition(conditions.OLD_EXPORT_FAILED, TRUE, verdict.reason, verdict.message)] if ended else ()
        ),
    )


def _summary(phase: Phase, status: str, reason: str, message: str) -> Mapping[str, Any]:
    """The `Succeeded` condition. A failed import keeps its reason while it is cleaned up after."""
    if phase is Phase.FAILED and status == UNKNOWN:
        return condition("CleanedUp", FALSE, reason, message)
    return condition(SUCCEEDED, status, reason, message)


def _apply(status: Status, changes: Changes, now: datetime, generation: int) -> Status:
    for name, value in changes.fields.items():
        if value is None:
            status.pop(name, None)
        else:
            status[name] = value
    if changes.preflight is not None:
        status["preflight"] = [
            {key: value for key, value in finding.to_dict().items() if key != "prediction"}
            for finding in changes.preflight
        ]
    if changes.disks is not None:
        stored = {entry.get("sourceDisk"): entry for entry in status.get("diskImportStatus") or ()}
        status["diskImportStatus"] = [
            _disk(entry, stored.get(entry.get("sourceDisk"), {}), now) for entry in changes.disks
        ]
    if changes.progress is not None:
        status["progress"] = changes.progress.to_status()
    if changes.conditions:
        status["conditions"] = conditions.merge(
            status.get("conditions") or (), changes.conditions, now, generation
        )
    if changes.old_conditions:
        status["importConditions"] = conditions.merge(
            status.get("importConditions") or (), changes.old_conditions, now
        )
    return status


def _disk(entry: Mapping[str, Any], stored: Mapping[str, Any], now: datetime) -> Status:
    disk = dict(entry)
    if disk.get("diskConditions"):
        disk["diskConditions"] = conditions.merge(
            stored.get("diskConditions") or (), disk["diskConditions"], now
        )
    return disk


def earned(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the conditions that have become True."""
    old = {entry["type"]: entry.get("status") for entry in before}
    return [entry for entry in after if entry["status"] == TRUE != old.get(entry["type"])]


def new_trouble(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the conditions that are not True for another reason, or with other words, than before.

    Given the conditions of a pass that met an error.
    """
    old = {entry["type"]: (entry.get("reason"), entry.get("message")) for entry in before}
    told: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for entry in after:
        words = entry.get("reason"), entry.get("message")
        if entry["status"] != TRUE and words != old.get(entry["type"]):
            told.setdefault(words, entry)
    return list(told.values())
