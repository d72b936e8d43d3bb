"""What of an object matters to us: which changes wake an import, and what a store keeps of it. Pure.

Objects are those of the API server, as informers see them.
"""

from __future__ import annotations

from typing import Any, Final

from controller.api import conditions, names
from controller.api.phase import TERMINAL, Phase
from controller.runtime.listwatch import Object

_SLIM_STATUS: Final = ("phase", "importStatus", "observedGeneration", "importedVirtualMachineName", "source")
_SLIM_STATUS_UNDER_WAY: Final = (*_SLIM_STATUS, "phaseStartTime")
REASON: Final = "reason"
"""Where a slim import under way keeps the reason of its condition Succeeded, in `status`."""


def asks(obj: Object) -> tuple[Any, ...]:
    """Return what a user can change about an import."""
    meta, status = obj["metadata"], obj.get("status") or {}
    return (
        meta.get("generation"),
        meta.get("deletionTimestamp"),
        bool(status.get("importStatus")) or status.get("phase") in (None, Phase.PREFLIGHT.value),
    )


def rests(obj: Object) -> bool:
    """Tell whether nothing is left to do for an import as it is."""
    meta, status = obj["metadata"], obj.get("status") or {}
    finalizers = meta.get("finalizers") or ()
    invalid = status.get("phase") == Phase.INVALID
    ours = (names.FINALIZER in finalizers or invalid) and names.OLD_FINALIZER not in finalizers
    edited = invalid and status.get("observedGeneration") != meta.get("generation")
    ended = status.get("phase") in (Phase.SUCCEEDED, Phase.INVALID) and bool(status.get("importStatus"))
    return ours and ended and not edited and not meta.get("deletionTimestamp")


def tells(obj: Object) -> tuple[Any, ...]:
    """Return what an import waits for of an image or a VM."""
    status = obj.get("status") or {}
    words = [(entry.get("type"), entry.get("status")) for entry in status.get("conditions") or ()]
    return obj["metadata"].get("deletionTimestamp"), status.get("ready"), words


def offers(obj: Object) -> tuple[Any, ...]:
    """Return what imports wait for of a source: that it is verified as it is now, and that it consents."""
    meta, status = obj["metadata"], obj.get("status") or {}
    ready = conditions.find(status.get("conditions") or (), conditions.READY) or {}
    judged = status.get("observedGeneration") == meta.get("generation")
    return status.get("status"), judged, ready.get("reason"), meta.get("annotations")


def source_keys(obj: Object) -> list[str]:
    """Return the keys, lower-cased, of the sources that an import may wait for: named, and read from.

    A failed one may still have something there that is to be put back.
    """
    status = obj.get("status") or {}
    if status.get("phase") in (Phase.SUCCEEDED, Phase.INVALID):
        return []
    here = obj["metadata"]["namespace"]
    named = ((obj.get("spec") or {}).get("sourceCluster") or {}, status.get("source") or {})
    return sorted(
        {
            f"{reference.get('kind')}/{reference.get('namespace') or here}/{reference.get('name')}".lower()
            for reference in named
            if reference
        }
    )


def target_keys(obj: Object) -> list[str]:
    """Return `namespace/name` of the VM that an import is on its way to make."""
    status = obj.get("status") or {}
    name, phase = status.get("importedVirtualMachineName"), status.get("phase")
    under_way = phase not in (None, Phase.PREFLIGHT.value, *(ended.value for ended in TERMINAL))
    return [f"{obj['metadata']['namespace']}/{name}"] if name and under_way else []


def without_managed_fields(obj: Object) -> Object:
    """Drop what no one here reads; for a store's `transform`."""
    obj["metadata"].pop("managedFields", None)
    return obj


def slim_import(obj: Object) -> Object:
    """Keep of an import what handlers and indexes look at; a pass reads the whole of it live."""
    meta, status = obj["metadata"], obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp", "finalizers")
    ended = status.get("phase") in {phase.value for phase in TERMINAL}
    fields = _SLIM_STATUS if ended else _SLIM_STATUS_UNDER_WAY
    slim = {name: status[name] for name in fields if name in status}
    summary = conditions.find(status.get("conditions") or (), conditions.SUCCEEDED)
    if summary and not ended:
        slim[REASON] = summary.get("reason")
    return {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": {"sourceCluster": (obj.get("spec") or {}).get("sourceCluster")},
        "status": slim,
    }
