"""Manifests of what we make in the cluster, as pure functions: description in, Kubernetes object out.

Nothing here looks at the world. The rules are those of Harvester and KubeVirt:
https://kubevirt.io/api-reference/v1.5.0/definitions.html, and Harvester's `pkg/webhook` for what it refuses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller import kinds
from controller.api import names
from controller.api.types import DiskMapping, NetworkMapping, VirtualMachineImport
from controller.storage_class import StorageChoice
from providers.model import DiskBus, Firmware, NICModel, SourceDisk, SourceNIC, SourceVM

Manifest = dict[str, Any]

LABEL_VALUE_MAX = 63  # characters; also of an RFC 1123 label, and so of a VM's name
SERIAL_MAX = 256  # characters; KubeVirt's limit
# That of KubeVirt's own bridge in the pod, which refuses a card with it (v1.5.0, `pkg/network/link/mac.go`).
POD_BRIDGE_MAC = "02:00:00:00:00:00"
# Harvester forbids to delete a backing image that a volume uses, but not an image of CDI's (v1.6.0,
# `pkg/image/cdi/validate.go`), and deletes its volume with it, which is the VM's disk.
KEEP_IMAGE = "The volume of this image is the disk of an imported VM. Deleting the image deletes the disk."
_HASH_CHARACTERS = 8


def shorten(text: str, limit: int = LABEL_VALUE_MAX) -> str:
    """Return `text`, cut to `limit` characters with a hash of the whole where it is longer."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{text[: limit - _HASH_CHARACTERS - 1].rstrip('-._')}-{digest}"


def target_name(source_name: str) -> str:
    """Make an RFC 1123 label of a source VM's name; empty when nothing of it is usable.

    Lower-cased, every run of other characters becomes `-`, trimmed, cut to 63 with a hash when cut.
    """
    return shorten(re.sub(r"[^a-z0-9]+", "-", source_name.lower()).strip("-"))


def image_name(vmimport: VirtualMachineImport, index: int) -> str:
    """Name of the VirtualMachineImage (and PVC) of a disk: the same on every pass of one run."""
    return f"import-{vmimport.uid}-{vmimport.run}-{index}"[:LABEL_VALUE_MAX]


def image_display_name(vmimport: VirtualMachineImport, index: int, *, unique: bool = False) -> str:
    """Name that Harvester's UI shows for the image; a label value, so at most 63 characters.

    Args:
        vmimport: The import.
        index: Index of the disk.
        unique: Add the run, because an image of an earlier run still bears the plain name.
    """
    run = f"-{vmimport.run}" if unique else ""
    return shorten(f"vm-import-{vmimport.name}-{index}{run}")


def owner_reference(vmimport: VirtualMachineImport) -> Manifest:
    """Owner reference by which the cluster's garbage collector backs up our own cleanup."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.IMPORT_KIND,
        "name": vmimport.name,
        "uid": vmimport.uid,
        "blockOwnerDeletion": False,
        "controller": True,
    }


def labels(vmimport: VirtualMachineImport) -> dict[str, str]:
    """Labels by which we find again what this run of the import made."""
    return {
        names.LABEL_IMPORTED: "true",
        names.LABEL_IMPORT_UID: vmimport.uid,
        names.LABEL_IMPORT_NAME: shorten(vmimport.name),
        names.LABEL_RUN: vmimport.run,
    }


def build_image(
    vmimport: VirtualMachineImport, index: int, *, url: str, storage: StorageChoice, unique_name: bool = False
) -> Manifest:
    """Build the VirtualMachineImage that lets Harvester fetch one disk from our image server."""
    display_name = image_display_name(vmimport, index, unique=unique_name)
    annotations = {names.ANNOTATION_STORAGE_CLASS: storage.class_name}
    if storage.backend == "cdi":
        annotations[names.ANNOTATION_DESCRIPTION] = KEEP_IMAGE
    return {
        "apiVersion": "harvesterhci.io/v1beta1",
        "kind": "VirtualMachineImage",
        "metadata": {
            "name": image_name(vmimport, index),
            "namespace": vmimport.namespace,
            "labels": {
                **labels(vmimport),
                names.LABEL_DISK: str(index),
                names.LABEL_IMAGE_DISPLAY_NAME: display_name,
            },
            "annotations": annotations,
            "ownerReferences": [owner_reference(vmimport)],
        },
        "spec": {
            "displayName": display_name,
            "sourceType": "download",
            "url": url,
            "backend": storage.backend,
            "targetStorageClassName": storage.class_name,
        },
    }


def build_pvc(vmimport: VirtualMachineImport, index: int, *, size_bytes: int, class_name: str) -> Manifest:
    """Build the volume of one disk from its Longhorn backing image; the size is the virtual size."""
    name = image_name(vmimport, index)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": vmimport.namespace,
            "labels": {**labels(vmimport), names.LABEL_DISK: str(index)},
            "annotations": {names.ANNOTATION_IMAGE_ID: f"{vmimport.namespace}/{name}"},
            "ownerReferences": [owner_reference(vmimport)],
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "storageClassName": class_name,
            "resources": {"requests": {"storage": str(size_bytes)}},
        },
    }


@dataclass(frozen=True, slots=True)
class NICPlan:
    """What becomes of the source's network cards.

    Attributes:
        interfaces: KubeVirt interfaces, in the source's order.
        networks: KubeVirt networks, one for each interface.
        left_out: Cards without a mapping beyond the first: KubeVirt allows one pod network only.
    """

    interfaces: tuple[Manifest, ...]
    networks: tuple[Manifest, ...]
    left_out: tuple[SourceNIC, ...] = ()


def find_mapping(nic: SourceNIC, mappings: Sequence[NetworkMapping]) -> NetworkMapping | None:
    """Return the mapping of a card's network: the one rule, used by preflight and by the builder alike."""
    return next((entry for entry in mappings if entry.source in nic.networks), None)


def is_pod_network(destination: str) -> bool:
    """Tell whether `destinationNetwork` means the management network, that is, the pod network."""
    return destination.strip().lower() in names.POD_NETWORK_NAMES


def qualified_network(destination: str, namespace: str) -> str:
    """Return `destinationNetwork` as `namespace/name`."""
    return destination if "/" in destination else f"{namespace}/{destination}"


def plan_nics(
    vmimport: VirtualMachineImport, nics: Sequence[SourceNIC], boot_orders: Mapping[str, int] | None = None
) -> NICPlan:
    """Decide network and model of every card.

    Mapped -> multus with bridge. Unmatched -> pod network with masquerade, for one of them only: KubeVirt
    allows no more; a card that the user maps there comes before one that nobody mapped. No card at all -> one
    on the pod network, as the documentation promises.
    """
    spec = vmimport.spec
    default = spec.default_nic_model or NICModel.VIRTIO.value
    interfaces: list[Manifest] = []
    networks: list[Manifest] = []
    left_out: list[SourceNIC] = []
    cards = [(nic, find_mapping(nic, spec.networks)) for nic in nics or (SourceNIC(key="default"),)]
    bound_for_pod_network = [
        (mapping is None, nic.key)
        for nic, mapping in cards
        if mapping is None or is_pod_network(mapping.destination)
    ]
    on_pod_network = min(bound_for_pod_network, key=lambda entry: entry[0], default=(True, None))[1]
    for nic, mapping in cards:
        wanted = mapping.model if mapping else None
        name = f"nic-{len(interfaces)}"
        detected = None if spec.default_nic_model and _default_rules(vmimport) else nic.model
        interface: Manifest = {"name": name, "model": wanted or detected or default}
        if nic.mac:
            interface["macAddress"] = nic.mac
        if boot_orders and nic.key in boot_orders:
            interface["bootOrder"] = boot_orders[nic.key]
        if mapping and not is_pod_network(mapping.destination):
            interface["bridge"] = {}
            target = qualified_network(mapping.destination, vmimport.namespace)
            networks.append({"name": name, "multus": {"networkName": target}})
        elif nic.key == on_pod_network:
            interface["masquerade"] = {}
            if nic.mac and nic.mac.lower() == POD_BRIDGE_MAC:
                del interface["macAddress"]
            networks.append({"name": name, "pod": {}})
        else:
            left_out.append(nic)
            continue
        interfaces.append(_plain(interface))
    return NICPlan(tuple(interfaces), tuple(networks), tuple(left_out))


def disk_bus(vmimport: VirtualMachineImport, disk: SourceDisk) -> str:
    """Return the bus of a disk: the user's exception, as detected, the user's default, or virtio."""
    exception = find_disk_mapping(vmimport, disk)
    default = vmimport.spec.default_bus
    detected = None if default and _default_rules(vmimport) else disk.bus
    chosen = (exception.bus if exception else None) or detected or default
    return str(chosen or DiskBus.VIRTIO)


def _default_rules(vmimport: VirtualMachineImport) -> bool:
    """Tell whether the user's defaults count for all disks and cards: so it is documented for OpenStack."""
    return kinds.source_kind(vmimport.spec.source_kind) == "OpenstackSource"


def find_disk_mapping(vmimport: VirtualMachineImport, disk: SourceDisk) -> DiskMapping | None:
    """Return the entry of `spec.diskMapping` that means this disk."""
    known = (disk.key, *disk.aliases)
    return next((entry for entry in vmimport.spec.disks if entry.source_disk in known), None)


def boot_sorted(disks: Sequence[SourceDisk]) -> tuple[SourceDisk, ...]:
    """Return the disks in boot order where the source has one, the others after them in device order."""
    return tuple(sorted(disks, key=lambda disk: (disk.boot_order is None, disk.boot_order or 0)))


def build_virtual_machine(
    vmimport: VirtualMachineImport, vm: SourceVM, disks: Sequence[Mapping[str, Any]]
) -> Manifest:
    """Build the KubeVirt VirtualMachine that equals `vm`.

    Args:
        vmimport: The import.
        vm: The machine at the source.
        disks: `status.diskImportStatus`: the disks that were imported, boot disk first.
    """
    spec = vmimport.spec
    name = vmimport.target_name
    cores = spec.override_cpu_cores or vm.cpu_count
    memory = spec.override_memory or f"{vm.memory_mib}Mi"
    boot_orders = _boot_orders(vm, disks)
    plan = plan_nics(vmimport, vm.nics, boot_orders)
    vm_labels = {**labels(vmimport), names.LABEL_VM_NAME: name}
    if vm.os_label:
        vm_labels[names.LABEL_OS] = vm.os_label
    # Harvester's web UI looks into a VM's annotations without asking whether there are any.
    annotations = {names.ANNOTATION_IMPORT: f"{vmimport.name}-{vmimport.namespace}"}
    if vm.description:
        annotations[names.ANNOTATION_DESCRIPTION] = vm.description
    domain: Manifest = {
        # Harvester caps sockets, so that all CPUs are cores of one.
        "cpu": {"sockets": 1, "cores": cores, "threads": 1},
        "memory": {"guest": memory},
        "resources": {"limits": {"cpu": str(cores), "memory": memory}},
        "machine": {"type": "q35"},
        "features": {"acpi": {"enabled": True}},
        "firmware": _firmware(vm),
        "clock": {
            "utc": {},
            "timer": {
                "hpet": {"present": False},
                "pit": {"tickPolicy": "delay"},
                "rtc": {"tickPolicy": "catchup"},
            },
        },
        "devices": {
            "disks": [
                _disk(vm, entry, index, boot_orders[entry["sourceDisk"]]) for index, entry in enumerate(disks)
            ],
            "interfaces": list(plan.interfaces),
            "inputs": [{"name": "tablet", "type": "tablet", "bus": "usb"}],
        },
    }
    if not domain["firmware"]:
        del domain["firmware"]
    if vm.secure_boot:
        domain["features"]["smm"] = {"enabled": True}  # Secure Boot keeps its keys in SMM
    if vm.tpm:
        domain["devices"]["tpm"] = {"persistent": True}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": name,
            "namespace": vmimport.namespace,
            "labels": vm_labels,
            "annotations": annotations,
        },
        "spec": {
            "runStrategy": spec.run_strategy,
            "template": {
                "metadata": {"labels": {names.LABEL_VM_NAME: name}},
                "spec": {
                    "domain": domain,
                    "evictionStrategy": "LiveMigrateIfPossible",
                    "networks": list(plan.networks),
                    "volumes": [
                        {
                            "name": f"disk-{index}",
                            "persistentVolumeClaim": {"claimName": entry["VirtualMachineImage"]},
                        }
                        for index, entry in enumerate(disks)
                    ],
                },
            },
        },
    }


def _boot_orders(vm: SourceVM, entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return boot order by key of disk or card: the source's where it has one, then the other disks.

    KubeVirt wants the numbers unique over disks and cards together; a card that does not boot has none.
    """
    by_key = {disk.key: disk for disk in vm.disks}
    ranked: list[tuple[int, int, str]] = [
        (nic.boot_order, position, nic.key) for position, nic in enumerate(vm.nics) if nic.boot_order
    ]
    last = len(entries) + len(vm.nics) + max((order for order, _, _ in ranked), default=0)
    for position, entry in enumerate(entries):
        disk = by_key.get(entry["sourceDisk"])
        ranked.append(((disk.boot_order if disk else None) or last, position, entry["sourceDisk"]))
    return {key: rank for rank, (_, _, key) in enumerate(sorted(ranked), start=1)}


def _disk(vm: SourceVM, entry: Mapping[str, Any], index: int, boot_order: int) -> Manifest:
    disk: Manifest = {"name": f"disk-{index}", "disk": {"bus": entry["busType"]}, "bootOrder": boot_order}
    source = next((known.serial for known in vm.disks if known.key == entry["sourceDisk"]), None)
    if serial := serial_number(source):
        disk["serial"] = serial
    return disk


def serial_number(source: str | None) -> str:
    """Return a serial number as KubeVirt takes it, for machines and disks alike; empty when there is none.

    What it refuses is left out: `VMware-42 1f ...-01 02 ...` loses its blanks.
    https://github.com/kubevirt/kubevirt/blob/v1.5.0/pkg/virt-api/webhooks/validating-webhook/admitters/vmi-create-admitter.go
    """
    return re.sub(r"[^A-Za-z0-9_.+-]", "", source or "")[:SERIAL_MAX]


def _firmware(vm: SourceVM) -> Manifest:
    # BIOS is what KubeVirt takes where nothing is said. Said, it would stay beside the EFI that somebody
    # chooses later in Harvester's web UI, and KubeVirt refuses the two together.
    firmware: Manifest = {}
    if vm.firmware is Firmware.UEFI:
        firmware["bootloader"] = {"efi": {"secureBoot": vm.secure_boot}}
    if vm.uuid:
        firmware["uuid"] = vm.uuid
    if serial := serial_number(vm.serial):
        firmware["serial"] = serial
    return firmware


def _plain(manifest: Manifest) -> Manifest:
    """Return `manifest` with enumeration members as plain strings, as YAML and JSON want them."""
    return {key: str(value) if isinstance(value, str) else value for key, value in manifest.items()}
