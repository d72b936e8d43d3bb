"""Giving up ownership of what the new VM uses, so that it outlives the import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
