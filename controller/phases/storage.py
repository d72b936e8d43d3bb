"""Which StorageClass a disk goes to, and which of Harvester's backends that means."""

from __future__ import annotations

from controller import builders, kinds
from controller.api import names
from controller.errors import StepError
from controller.kube.errors import NotFound
from controller.phases.base import Context
from controller.storage_class import StorageChoice
from providers.model import SourceDisk


class StorageClassMissing(StepError):
    """Surfaces when a StorageClass does not exist, or none is named and the cluster has no default."""

    reason = "StorageClassNotFound"
    retryable = True


def choose_storage(ctx: Context, disk: SourceDisk | None) -> StorageChoice:
    """Return the StorageClass of a disk: its own exception, else the import's, else the cluster's default.

    Raises:
        StorageClassMissing: it does not exist.
    """
    exception = builders.find_disk_mapping(ctx.vmimport, disk) if disk else None
    name = (exception.storage_class if exception else None) or ctx.vmimport.spec.storage_class
    if name:
        try:
            found = ctx.kube.get(kinds.STORAGE_CLASSES, name)
        except NotFound as exc:
            raise StorageClassMissing(f"StorageClass {name!r} does not exist") from exc
    else:
        defaults = [
            entry
            for entry in ctx.kube.list(kinds.STORAGE_CLASSES)
            if (entry["metadata"].get("annotations") or {}).get(names.ANNOTATION_DEFAULT_CLASS) == "true"
        ]
        if not defaults:
            raise StorageClassMissing("no StorageClass is named, and the cluster has no default one")
        # Of several defaults the newest counts, as for PVCs (Kubernetes docs, "Default StorageClass").
        found = max(defaults, key=lambda entry: entry["metadata"]["creationTimestamp"])
    return StorageChoice(
        class_name=found["metadata"]["name"],
        provisioner=found["provisioner"],
        parameters=found.get("parameters") or {},
        explicit=bool(name),
    )
