"""The state machine as data: phases, and the moves between them.

A phase is a bookmark, not evidence: each phase's step looks at the world before it acts. What runs in a
phase is bound to it in `controller.phases.table`; what a user sees of it is derived in
`controller.reconcile.status`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """`status.phase` of a VirtualMachineImport."""

    PREFLIGHT = "Preflight"
    SHUTDOWN = "Shutdown"
    EXPORT = "Export"
    CONVERT = "Convert"
    IMAGE_UPLOAD = "ImageUpload"
    VM_CREATE = "VMCreate"
    WAIT_FOR_VM = "WaitForVM"
    SUCCEEDED = "Succeeded"
    INVALID = "Invalid"
    FAILED = "Failed"


TERMINAL: Final = frozenset({Phase.SUCCEEDED, Phase.INVALID, Phase.FAILED})

TRANSITIONS: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.PREFLIGHT: frozenset({Phase.SHUTDOWN, Phase.INVALID}),
    Phase.SHUTDOWN: frozenset({Phase.EXPORT, Phase.FAILED}),
    # Back to Shutdown: somebody switched the VM on while it was read.
    Phase.EXPORT: frozenset({Phase.CONVERT, Phase.SHUTDOWN, Phase.FAILED}),
    # Back to Export: the scratch volume lost a disk (an emptyDir does with its pod), so it is read again.
    Phase.CONVERT: frozenset({Phase.IMAGE_UPLOAD, Phase.EXPORT, Phase.FAILED}),
    Phase.IMAGE_UPLOAD: frozenset({Phase.VM_CREATE, Phase.EXPORT, Phase.FAILED}),
    Phase.VM_CREATE: frozenset({Phase.WAIT_FOR_VM, Phase.FAILED}),
    Phase.WAIT_FOR_VM: frozenset({Phase.SUCCEEDED, Phase.FAILED}),
    Phase.SUCCEEDED: frozenset(),
    Phase.INVALID: frozenset(),
    Phase.FAILED: frozenset(),
}
"""Moves that a step may make. Clearing `importStatus`, or editing an Invalid or Failed import, starts over
at Preflight from anywhere; that is the user's move, not a step's: see `controller.reconcile.importer`."""
