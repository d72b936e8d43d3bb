"""What a run has made in the cluster: deleted as long as it is the run's, left to the VM that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller import kinds
from controller.api import names
from controller.kube.errors import NotFound
from controller.kube.resource import Resource
from controller.phases.base import Context


def is_owned(obj: Mapping[str, Any], uid: str) -> bool:
    """Tell whether an object depends on the import with this UID."""
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences") or ())


def release(ctx: Context, resource: Resource, name: str) -> None:
    """Take our owner reference off an object, so that it outlives the import; gone or done is success."""
    try:
        obj = ctx.kube.get(resource, name, ctx.vmimport.namespace)
    except NotFound:
        return
    owners = obj["metadata"].get("ownerReferences") or []
    kept = [owner for owner in owners if owner.get("uid") != ctx.vmimport.uid]
    if len(kept) != len(owners):
        obj["metadata"]["ownerReferences"] = kept
        ctx.kube.replace(resource, obj)


def delete_unfinished(ctx: Context) -> None:
    """Delete the images and volumes of this run that no VM was made of yet.

    Once there was a VM they have lost their owner and are the user's, also if the VM is gone: its volumes may
    have been kept on purpose.
    """
    vmimport = ctx.vmimport
    selector = f"{names.LABEL_IMPORT_UID}={vmimport.uid},{names.LABEL_RUN}={vmimport.run}"
    if not vmimport.run:
        return
    for resource in (kinds.PVCS, kinds.IMAGES):
        for obj in ctx.kube.list(resource, vmimport.namespace, label_selector=selector):
            if not is_owned(obj, vmimport.uid):
                continue
            try:
                ctx.kube.delete(
                    resource, obj["metadata"]["name"], vmimport.namespace, uid=obj["metadata"]["uid"]
                )
            except NotFound:
                continue
