"""VMCreate: the volumes and the VirtualMachine exist, and no longer depend on the import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller import builders, kinds
from controller.api import conditions, names
from controller.api.phase import Phase
from controller.errors import ImageFailed, NameTaken
from controller.kube.errors import REFUSALS, NotFound
from controller.kube.resource import Resource
from controller.phases.base import Advance, Changes, Context, Outcome, Wait, false, true
from controller.phases.ownership import release

_BACKING_IMAGE = "backingimage"
RETRY_SECONDS = 30.0


def run(ctx: Context) -> Outcome:
    """Create what is missing, then give up ownership: from here on the VM lives on its own.

    Raises:
        NameTaken: a foreign VM or volume has the name; it is not touched.
        ImageFailed: somebody deleted an image that was ready.
    """
    vmimport = ctx.vmimport
    vm = builders.build_virtual_machine(vmimport, ctx.source_vm(), vmimport.disks)
    try:
        for index, entry in enumerate(vmimport.disks):
            _ensure_disk(ctx, index, entry)
        _ensure(ctx, kinds.VIRTUAL_MACHINES, vm)
    except REFUSALS as exc:
        return _refused(str(exc))
    for entry in vmimport.disks:
        release(ctx, kinds.IMAGES, entry["VirtualMachineImage"])
        release(ctx, kinds.PVCS, entry["VirtualMachineImage"])
    name = vm["metadata"]["name"]
    return Advance(
        Phase.WAIT_FOR_VM,
        f"VirtualMachine {vmimport.namespace}/{name} created",
        Changes(
            fields={"newVirtualMachine": name},
            conditions=[true(conditions.VM_CREATED, "Created", f"{vmimport.namespace}/{name}")],
        ),
    )


def _refused(message: str) -> Wait:
    """The cluster refuses the VM or a volume of it (a MAC address that is taken, say): wait for people.

    Failing here would throw away what took hours to copy.
    """
    return Wait(
        RETRY_SECONDS,
        "VirtualMachineRefused",
        message,
        Changes(conditions=[false(conditions.VM_CREATED, "VirtualMachineRefused", message)]),
        trouble=True,
    )


def _ensure_disk(ctx: Context, index: int, entry: Mapping[str, Any]) -> None:
    """See to it that a disk's volume exists; CDI has made one with the image."""
    name = entry["VirtualMachineImage"]
    try:
        image = ctx.kube.get(kinds.IMAGES, name, ctx.vmimport.namespace)
    except NotFound as exc:
        raise ImageFailed(f"image {name} was deleted before it was used") from exc
    if image["spec"].get("backend", _BACKING_IMAGE) == _BACKING_IMAGE:
        _ensure_volume(ctx, index, int(entry["diskSize"]), image)


def _ensure_volume(ctx: Context, index: int, size_bytes: int, image: dict[str, Any]) -> None:
    status = image.get("status") or {}
    # Harvester rounds the virtual size of an image up to its sector; the volume must hold all of it.
    size = max(size_bytes, int(status.get("virtualSize") or 0))
    pvc = builders.build_pvc(ctx.vmimport, index, size_bytes=size, class_name=status["storageClassName"])
    _ensure(ctx, kinds.PVCS, pvc)


def _ensure(ctx: Context, resource: Resource, manifest: dict[str, Any]) -> None:
    """Create an object unless it is there already; look first, for webhooks judge before the name is.

    Raises:
        NameTaken: the one that is there is not of this import.
    """
    name = manifest["metadata"]["name"]
    try:
        existing = ctx.kube.get(resource, name, ctx.vmimport.namespace)
    except NotFound:
        ctx.kube.create(resource, manifest)
        return
    labels = existing["metadata"].get("labels") or {}
    if labels.get(names.LABEL_IMPORT_UID) != ctx.vmimport.uid:
        message = f"{resource.kind} {ctx.vmimport.namespace}/{name} exists and is not of this import"
        raise NameTaken(message)
