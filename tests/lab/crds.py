"""The destination's real kinds, from the sources of the products, and what a Harvester cluster begins with.

Pruning is real: a misspelt field disappears when it is stored. That is the point of using these schemas.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.lab.cache import cache_dir, locked
from tests.lab.errors import LabError
from tests.lab.processes import wait_until
from tests.lab.toolchain import HARVESTER, KUBEVIRT, PROMETHEUS_OPERATOR, GoModule, go_module

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.lab.control_plane import ControlPlane

CRD_API = "apiextensions.k8s.io/v1"
CRD_PATH = f"/apis/{CRD_API}/customresourcedefinitions"
ESTABLISHED_SECONDS = 180
LONGHORN = "driver.longhorn.io"
DEFAULT_STORAGE_CLASS = "harvester-longhorn"  # the name that a fresh Harvester has
DEFAULT_CLASS_ANNOTATION = "storageclass.kubernetes.io/is-default-class"

IMAGE_CRD_FILE = "deploy/charts/harvester-crd/templates/harvesterhci.io_virtualmachineimages.yaml"
ADDON_CRD_FILE = "deploy/charts/harvester-crd/templates/harvesterhci.io_addons.yaml"
MONITORING_CRDS = "example/prometheus-operator-crd/monitoring.coreos.com"
VM_SCHEMA_FILE = "pkg/virt-operator/resource/generate/components/validations_generated.go"
VM_SCHEMA_START = '\t"virtualmachine": `'
VM_SCHEMA_END = "`,\n"


def install(control_plane: ControlPlane, extra: Sequence[dict[str, Any]] = ()) -> None:
    """Give the cluster Harvester's kinds and default StorageClass, and wait until they are served.

    Args:
        control_plane: A running one.
        extra: More CustomResourceDefinitions: the controller's own.
    """
    definitions = [image_crd(), vm_crd(), network_attachment_crd(), *extra]
    control_plane.apply([*definitions, storage_class(DEFAULT_STORAGE_CLASS, default=True)])
    for definition in definitions:
        wait_established(control_plane, definition["metadata"]["name"])
    control_plane.restart_controller_manager()


def wait_established(control_plane: ControlPlane, name: str) -> None:
    """Return when a CRD is served; `kubectl wait` fails on one that is too young to have conditions."""

    def established() -> bool:
        status = control_plane.api.get(f"{CRD_PATH}/{name}").get("status") or {}
        return any(
            entry["type"] == "Established" and entry["status"] == "True"
            for entry in status.get("conditions") or ()
        )

    wait_until(established, what=f"{name} to be served", timeout_seconds=ESTABLISHED_SECONDS)


def image_crd() -> dict[str, Any]:
    """Return the CRD of `harvesterhci.io` VirtualMachineImage, as Harvester's chart has it."""
    return _cached("virtualmachineimage", HARVESTER, lambda source: _load(source / IMAGE_CRD_FILE))


def vm_crd() -> dict[str, Any]:
    """Return the CRD of `kubevirt.io` VirtualMachine, as KubeVirt's operator installs it."""
    return _cached("virtualmachine", KUBEVIRT, _vm_crd)


def addon_crd() -> dict[str, Any]:
    """Return the CRD of `harvesterhci.io` Addon, as Harvester's chart has it."""
    return _cached("addon", HARVESTER, lambda source: _load(source / ADDON_CRD_FILE))


def monitoring_crds() -> list[dict[str, Any]]:
    """Return the CRDs of `monitoring.coreos.com` ServiceMonitor and PrometheusRule."""
    return [
        _cached(plural, PROMETHEUS_OPERATOR, functools.partial(_monitoring_crd, plural))
        for plural in ("servicemonitors", "prometheusrules")
    ]


def network_attachment_crd() -> dict[str, Any]:
    """Return the CRD of `k8s.cni.cncf.io` NetworkAttachmentDefinition (Multus' specification, version 1)."""
    spec = {"type": "object", "properties": {"config": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec}}
    return {
        "apiVersion": CRD_API,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
        "spec": {
            "group": "k8s.cni.cncf.io",
            "scope": "Namespaced",
            "names": {
                "plural": "network-attachment-definitions",
                "singular": "network-attachment-definition",
                "kind": "NetworkAttachmentDefinition",
                "shortNames": ["net-attach-def"],
            },
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }


def network_attachment(namespace: str, name: str, vlan: int = 1) -> dict[str, Any]:
    """Return a NetworkAttachmentDefinition as Harvester writes one for a VLAN network."""
    config = {"cniVersion": "0.3.1", "name": name, "type": "bridge", "bridge": "mgmt-br", "vlan": vlan}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"config": json.dumps(config)},
    }


def storage_class(
    name: str,
    *,
    provisioner: str = LONGHORN,
    default: bool = False,
    parameters: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a StorageClass; Longhorn's with two replicas unless said otherwise."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {DEFAULT_CLASS_ANNOTATION: "true"} if default else {}},
        "provisioner": provisioner,
        "parameters": parameters if parameters is not None else {"numberOfReplicas": "2"},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
    }


def _vm_crd(source: Path) -> dict[str, Any]:
    """Do what `components.NewVirtualMachineCrd` does, with the schema from the literal that it reads."""
    literals = (source / VM_SCHEMA_FILE).read_text()
    _, found, rest = literals.partition(VM_SCHEMA_START)
    if not found:
        raise LabError(f"{VM_SCHEMA_FILE} has no schema of a VirtualMachine")
    schema = yaml.safe_load(rest.partition(VM_SCHEMA_END)[0])
    shared = {
        "schema": schema,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "Status", "type": "string", "jsonPath": ".status.printableStatus"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
        ],
    }
    return {
        "apiVersion": CRD_API,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "virtualmachines.kubevirt.io", "labels": {"kubevirt.io": ""}},
        "spec": {
            "group": "kubevirt.io",
            "scope": "Namespaced",
            "names": {
                "plural": "virtualmachines",
                "singular": "virtualmachine",
                "kind": "VirtualMachine",
                "shortNames": ["vm", "vms"],
                "categories": ["all"],
            },
            "versions": [
                {"name": "v1", "served": True, "storage": True, **shared},
                {"name": "v1alpha3", "served": True, "storage": False, "deprecated": True, **shared},
            ],
        },
    }


def _monitoring_crd(plural: str, source: Path) -> dict[str, Any]:
    return _load(source / f"{MONITORING_CRDS}_{plural}.yaml")


def _load(path: Path) -> dict[str, Any]:
    with path.open() as stream:
        document: dict[str, Any] = yaml.safe_load(stream)
    return document


def _cached(name: str, module: GoModule, extract: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    path = cache_dir() / "crds" / f"{name}-{module.version}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with locked(f"crd-{name}"):
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(extract(go_module(module))))
            partial.replace(path)
    document: dict[str, Any] = json.loads(path.read_text())
    return document
