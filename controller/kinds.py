"""The kinds of objects that this controller reads and writes, as the API server calls them."""

from __future__ import annotations

from typing import Final

from controller.api import names
from controller.kube.resource import Resource

IMPORTS: Final = Resource(names.GROUP, names.VERSION, "virtualmachineimports", names.IMPORT_KIND)
SOURCES: Final = {
    kind: Resource(names.GROUP, names.VERSION, plural, kind)
    for kind, plural in (
        ("VmwareSource", "vmwaresources"),
        ("OpenstackSource", "openstacksources"),
        ("OvaSource", "ovasources"),
    )
}
IMAGES: Final = Resource("harvesterhci.io", "v1beta1", "virtualmachineimages", "VirtualMachineImage")
VIRTUAL_MACHINES: Final = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
NETWORKS: Final = Resource(
    "k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition"
)
STORAGE_CLASSES: Final = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
PVCS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
QUOTAS: Final = Resource("", "v1", "resourcequotas", "ResourceQuota")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")


def source_kind(word: str) -> str | None:
    """Return the kind that `sourceCluster.kind` means, compared without case; `None` when it means none."""
    return next((kind for kind in SOURCES if kind.lower() == word.lower()), None)
