"""The state machine: which step runs in which phase, and what it earns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controller.api import conditions
from controller.api.phase import TRANSITIONS, Phase
from controller.phases import (
    cleanup,
    convert,
    create_vm,
    export,
    preflight,
    shutdown,
    upload,
    wait_for_vm,
)
from controller.phases.base import StepFunction


@dataclass(frozen=True, slots=True)
class Row:
    """What happens in a phase.

    Attributes:
        run: The step.
        earns: The condition that is True once the phase is left forward, False when the import fails in it.
    """

    run: StepFunction
    earns: str | None = None


STEPS: Final[dict[Phase, Row]] = {
    Phase.PREFLIGHT: Row(preflight.run, conditions.PREFLIGHT_PASSED),
    Phase.SHUTDOWN: Row(shutdown.run, conditions.SOURCE_POWERED_OFF),
    Phase.EXPORT: Row(export.run, conditions.DISKS_EXPORTED),
    Phase.CONVERT: Row(convert.run, conditions.DISKS_CONVERTED),
    Phase.IMAGE_UPLOAD: Row(upload.run, conditions.IMAGES_READY),
    Phase.VM_CREATE: Row(create_vm.run, conditions.VM_CREATED),
    Phase.WAIT_FOR_VM: Row(wait_for_vm.run, conditions.VM_RUNNING),
    Phase.FAILED: Row(cleanup.run),
}
"""Succeeded and Invalid have no step: nothing is left to do, and nothing was done."""

_without_step = {phase for phase in Phase if phase not in STEPS}
_leads_on = {phase for phase in Phase if TRANSITIONS[phase]}
if not _leads_on <= STEPS.keys() or _without_step != {Phase.SUCCEEDED, Phase.INVALID}:
    raise RuntimeError("phases.table and api.phase disagree")
