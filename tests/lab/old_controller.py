"""What the old controller leaves behind: its CustomResourceDefinitions, and objects in each of its states.

Its definitions are generated from Go types by `wrangler`: everything is nullable, nothing is described, and a
field that it does not know is dropped. Fields are those of its v1.8.
"""

from __future__ import annotations

from typing import Any, Final

from controller.api import names
from tests.lab.crds import CRD_API
from tests.lab.scene import vm_import

STRING: Final = {"type": "string", "nullable": True}
BOOLEAN: Final = {"type": "boolean"}
INTEGER: Final = {"type": "integer"}

# The words of `importStatus`, in the order of its state machine.
FINISHED: Final = {
    "virtualMachineRunning": "Succeeded",
    "virtualMachineImportInvalid": "Invalid",
    "VMMigrationFailed": "Failed",
}
UNDER_WAY: Final = (
    "",
    "virtualMachineImportValid",
    "sourceReady",
    "disksExported",
    "diskImageSubmitted",
    "diskImageFailed",
    "diskImagesReady",
)


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "nullable": True, "items": items | {"nullable": True}}


_CONDITIONS = _array(
    _object(
        **dict.fromkeys(
            ["type", "status", "lastUpdateTime", "lastTransitionTime", "reason", "message"], STRING
        )
    )
)
_SECRET = _object(name=STRING, namespace=STRING)
_SOURCE_STATUS = _object(status=STRING, conditions=_CONDITIONS)
_REFERENCE = dict.fromkeys(
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"], STRING
)
_NETWORK = dict.fromkeys(["sourceNetwork", "destinationNetwork", "networkInterfaceModel"], STRING)
_DISK = dict.fromkeys(["diskName", "diskLocalPath", "diskRoute", "VirtualMachineImage", "busType"], STRING)
_KINDS: Final = {
    "VmwareSource": (_object(endpoint=STRING, dc=STRING, credentials=_SECRET), _SOURCE_STATUS),
    "OpenstackSource": (
        _object(
            endpoint=STRING,
            region=STRING,
            credentials=_SECRET,
            uploadImageRetryCount=INTEGER,
            uploadImageRetryDelay=INTEGER,
        ),
        _SOURCE_STATUS,
    ),
    "OvaSource": (
        _object(
            url=STRING,
            credentials=_SECRET | {"nullable": True},
            httpTimeoutSeconds=INTEGER | {"nullable": True},
        ),
        _SOURCE_STATUS,
    ),
    "VirtualMachineImport": (
        _object(
            sourceCluster=_object(**_REFERENCE),
            virtualMachineName=STRING,
            folder=STRING,
            networkMapping=_array(_object(**_NETWORK)),
            defaultNetworkInterfaceModel=STRING,
            storageClass=STRING,
            defaultDiskBusType=STRING,
            forcePowerOff=BOOLEAN | {"nullable": True},
            gracefulShutdownTimeoutSeconds=INTEGER | {"nullable": True},
            skipPreflightChecks=BOOLEAN | {"nullable": True},
        ),
        _object(
            importStatus=STRING,
            newVirtualMachine=STRING,
            importedVirtualMachineName=STRING,
            importConditions=_CONDITIONS,
            diskImportStatus=_array(_object(**_DISK, diskSize=INTEGER, diskConditions=_CONDITIONS)),
        ),
    ),
}


def definitions() -> list[dict[str, Any]]:
    """Return its four CustomResourceDefinitions."""
    return [_definition(kind, spec, status) for kind, (spec, status) in _KINDS.items()]


def _definition(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    word = ".status.importStatus" if kind == names.IMPORT_KIND else ".status.status"
    return {
        "apiVersion": CRD_API,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "preserveUnknownFields": False,
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [{"name": "Status", "type": "string", "jsonPath": word}],
                    "schema": {"openAPIV3Schema": _object(spec=spec, status=status)},
                }
            ],
        },
    }


def sources(namespace: str) -> list[dict[str, Any]]:
    """Return one object of each kind of source but VMware's, as its web form and documentation write them."""
    openstack = {
        "endpoint": "https://keystone.example.com:5000/v3",
        "region": "RegionOne",
        "credentials": {"name": "devstack", "namespace": ""},
        "uploadImageRetryCount": 30,
        "uploadImageRetryDelay": 10,
    }
    ova = {"url": "https://files.example.com/a.ova", "credentials": None, "httpTimeoutSeconds": None}
    return [
        {
            "apiVersion": names.API_VERSION,
            "kind": kind,
            "metadata": {"name": "old", "namespace": namespace},
            "spec": spec,
        }
        for kind, spec in (("OpenstackSource", openstack), ("OvaSource", ova))
    ]


def an_import(name: str, word: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an import of the VM `name`, and its status at one word of the state machine."""
    left = vm_import("default", name, name)
    left["metadata"]["finalizers"] = [names.OLD_FINALIZER]
    left["spec"] |= {
        "folder": "",
        "storageClass": "",
        "defaultDiskBusType": "",
        "defaultNetworkInterfaceModel": "",
        "forcePowerOff": None,
        "gracefulShutdownTimeoutSeconds": None,
        "skipPreflightChecks": None,
    }
    left["spec"]["networkMapping"][0]["networkInterfaceModel"] = ""
    if not word:
        return left, {}
    at = {"status": "True", "lastUpdateTime": "2025-11-27T11:00:00Z", "lastTransitionTime": ""}
    disk = {
        "diskName": f"{name}-default-disk-0.img",
        "diskSize": 1024,
        "diskLocalPath": f"/tmp/vm-import-controller/{name}-default-disk-0.img",  # noqa: S108  # its place
        "diskRoute": f"http://harvester-vm-import-controller.harvester-system.svc:8080/{name}-default-disk-0.img",
        "VirtualMachineImage": "image-abcde",
        "busType": "scsi",
        "diskConditions": [{"type": "VirtualMachineImageSubmitted", **at}],
    }
    return left, {
        "importStatus": word,
        "newVirtualMachine": name,
        "importedVirtualMachineName": name,
        "importConditions": [{"type": "VMPoweringOff", **at}, {"type": "VMPoweredOff", **at}],
        "diskImportStatus": [disk],
    }
