"""Conditions: their types, their reasons, and the rule by which they are updated.

The rule is KEP-1623's: `lastTransitionTime` moves only when `status` does, `reason` is never empty,
`observedGeneration` says which spec was judged.
https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/1623-standardize-conditions
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

TRUE: Final = "True"
FALSE: Final = "False"
UNKNOWN: Final = "Unknown"

# Types on a VirtualMachineImport's `conditions`.
SUCCEEDED: Final = "Succeeded"
PREFLIGHT_PASSED: Final = "PreflightPassed"
SOURCE_POWERED_OFF: Final = "SourcePoweredOff"
DISKS_EXPORTED: Final = "DisksExported"
DISKS_CONVERTED: Final = "DisksConverted"
IMAGES_READY: Final = "ImagesReady"
VM_CREATED: Final = "VirtualMachineCreated"
VM_RUNNING: Final = "VirtualMachineRunning"

# Types on a VirtualMachineImport's `importConditions`: the old controller's names.
OLD_SHUTDOWN_GUEST: Final = "VMShutdownGuest"
OLD_POWERING_OFF: Final = "VMPoweringOff"
OLD_POWERED_OFF: Final = "VMPoweredOff"
OLD_EXPORTED: Final = "VMExported"
OLD_EXPORT_FAILED: Final = "VMExportFailed"

# Types on a disk's `diskConditions`: the old controller's names.
IMAGE_SUBMITTED: Final = "VirtualMachineImageSubmitted"
IMAGE_READY: Final = "VirtualMachineImageReady"
IMAGE_FAILED: Final = "VirtualMachineImageFailed"

# Types on a source.
CLUSTER_READY: Final = "ClusterReady"
CLUSTER_ERROR: Final = "ClusterError"
READY: Final = "Ready"

Condition = Mapping[str, Any]


def timestamp(moment: datetime) -> str:
    """Return `moment` (aware, UTC) as Kubernetes writes times: RFC 3339, whole seconds, `Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(stored: str) -> datetime:
    """Return the moment of a timestamp as `timestamp` writes it."""
    return datetime.strptime(stored, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    """Return a condition without times, as steps state it; `merge` gives it its times."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


def merge(
    old: Iterable[Condition],
    new: Iterable[Condition],
    now: datetime,
    generation: int | None = None,
) -> list[dict[str, Any]]:
    """Return `old` with `new` laid over it: same types replaced in place, others appended.

    Args:
        old: The conditions as stored, with their times.
        new: The conditions as they are now, without times.
        now: The transition time of those whose `status` differs.
        generation: `metadata.generation` of the spec that was judged; `None` leaves the field out.
    """
    merged = {str(entry["type"]): dict(entry) for entry in old}
    for entry in new:
        before = merged.get(entry["type"], {})
        after = dict(entry)
        if not after.get("reason"):
            raise ValueError(f"condition {entry['type']} without a reason")
        same = before.get("status") == entry["status"]
        after["lastTransitionTime"] = (before.get("lastTransitionTime") if same else None) or timestamp(now)
        if generation is not None:
            after["observedGeneration"] = generation
        merged[entry["type"]] = after
    return list(merged.values())


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of type `kind`, if there."""
    return next((entry for entry in conditions if entry.get("type") == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Tell whether the condition of type `kind` is there and `True`."""
    found = find(conditions, kind)
    return found is not None and found.get("status") == TRUE
