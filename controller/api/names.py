"""Groups, kinds, labels, annotations and finalizers. Nothing here decides anything."""

from __future__ import annotations

from typing import Final

GROUP: Final = "migration.harvesterhci.io"
VERSION: Final = "v1beta1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
IMPORT_KIND: Final = "VirtualMachineImport"

FINALIZER: Final = "migration.harvesterhci.io/vm-import"
OLD_FINALIZER: Final = "wrangler.cattle.io/virtualmachine-import-controller"

LABEL_IMPORTED: Final = "migration.harvesterhci.io/imported"
LABEL_IMPORT_UID: Final = "migration.harvesterhci.io/import-uid"
LABEL_IMPORT_NAME: Final = "migration.harvesterhci.io/import-name"
LABEL_RUN: Final = "migration.harvesterhci.io/import-run"
LABEL_DISK: Final = "migration.harvesterhci.io/import-disk"
ANNOTATION_ALLOW_FROM: Final = "migration.harvesterhci.io/allow-from"

ANNOTATION_IMPORT: Final = "migration.harvesterhci.io/virtualmachineimport"
"""On a VM, `<import>-<namespace>`: the old controller's mark."""

LABEL_IMAGE_DISPLAY_NAME: Final = "harvesterhci.io/imageDisplayName"
LABEL_VM_NAME: Final = "harvesterhci.io/vmName"
LABEL_OS: Final = "harvesterhci.io/os"
ANNOTATION_IMAGE_ID: Final = "harvesterhci.io/imageId"
ANNOTATION_STORAGE_CLASS: Final = "harvesterhci.io/storageClassName"
ANNOTATION_DESCRIPTION: Final = "field.cattle.io/description"
ANNOTATION_QUOTA: Final = "harvesterhci.io/insufficient-resource-quota"
ANNOTATION_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
LONGHORN_PROVISIONER: Final = "driver.longhorn.io"

POD_NETWORK_NAMES: Final = frozenset({"mgmt", "management network"})
"""Names of the pod network in `destinationNetwork`, compared in lower case."""
