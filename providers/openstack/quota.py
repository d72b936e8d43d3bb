"""Whether the project's quotas leave room for the copies that an export makes. Pure.

Of each volume the export makes a snapshot, a volume from it and an image from that, all of the same size, and
keeps them until the last disk is read. Cinder counts a snapshot's size as gigabytes too (its option
`no_snapshot_gb_quota` is off unless somebody sets it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.model import Finding, Severity
from providers.openstack.disks import GIB, ROOT_HANDLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.model import SourceVM
    from providers.openstack.facts import JSON, ServerFacts

MIB = 1 << 20
_REMEDY = "Raise the project's quota, free some of it, or leave disks out with spec.diskMapping[].skip."


def findings(vm: SourceVM, facts: ServerFacts) -> Iterator[Finding]:
    """Yield one finding for each quota that has less left than is needed, and one for each that must be 0."""
    volumes = [disk for disk in vm.disks if not disk.handle.startswith(ROOT_HANDLE) and not disk.unsupported]
    gigabytes = sum(disk.size_bytes // GIB for disk in volumes)
    needed = {"snapshots": len(volumes), "volumes": len(volumes), "gigabytes": 2 * gigabytes}
    for disk in volumes:
        kind = facts.volumes.get(disk.handle, {}).get("volume_type")
        if kind:
            size = disk.size_bytes // GIB
            for name, amount in (("snapshots", 1), ("volumes", 1), ("gigabytes", 2 * size)):
                needed[f"{name}_{kind}"] = needed.get(f"{name}_{kind}", 0) + amount
    for name, amount in needed.items():
        left = _left(facts.quota.get(name))
        if left is not None and left < amount:
            yield _finding("CinderQuotaExceeded", f"Cinder quota {name!r}", amount, left)
    largest = max((disk.size_bytes // GIB for disk in volumes), default=0)
    per_volume = facts.quota.get("per_volume_gigabytes") or {}
    if isinstance(per_volume, dict) and 0 <= int(per_volume.get("limit", -1)) < largest:
        yield _finding(
            "CinderQuotaExceeded", "Cinder quota 'per_volume_gigabytes'", largest, int(per_volume["limit"])
        )
    yield from _of_images(vm, facts.image_quota)


def _of_images(vm: SourceVM, usage: JSON) -> Iterator[Finding]:
    supported = [disk for disk in vm.disks if not disk.unsupported]
    needed = {
        "image_count_total": len(supported),
        "image_size_total": sum(disk.size_bytes for disk in supported) // MIB,
    }
    for name, amount in needed.items():
        entry = usage.get(name) or {}
        if "limit" in entry and int(entry["limit"]) >= 0:
            left = int(entry["limit"]) - int(entry.get("usage") or 0)
            if left < amount:
                yield _finding("GlanceQuotaExceeded", f"Glance quota {name!r}", amount, left)


def _left(entry: object) -> int | None:
    """Return what is left of a quota; `None`: it is not limited, or not told."""
    if not isinstance(entry, dict) or int(entry.get("limit", -1)) < 0:
        return None
    return int(entry["limit"]) - int(entry.get("in_use") or 0) - int(entry.get("reserved") or 0)


def _finding(id_: str, what: str, needed: int, left: int) -> Finding:
    message = f"{what}: {needed} needed for the copies that an export makes, {max(0, left)} left"
    return Finding(id_, Severity.CRITICAL, message, _REMEDY, prediction=True)
