"""The disks of a server: its root, and the volumes that are attached. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.model import DiskBus, SourceDisk
from providers.openstack.facts import JSON, ServerFacts, by_device, volume_id

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 1 << 30
SECTOR = 512
ROOT_HANDLE = "server:"
"""Begins the handle of a root disk that is no volume; the server's UUID follows."""

# Glance's `hw_disk_bus` (nova.objects.fields.DiskBus); what is not here has no equal in KubeVirt.
_BUSES = {
    "virtio": DiskBus.VIRTIO,
    "scsi": DiskBus.SCSI,
    "sata": DiskBus.SATA,
    "ide": DiskBus.SATA,
    "usb": DiskBus.USB,
    "nvme": DiskBus.VIRTIO,
}
_BUS_BY_DEVICE = {"vd": DiskBus.VIRTIO, "sd": DiskBus.SCSI, "hd": DiskBus.SATA, "xvd": DiskBus.VIRTIO}


def to_disks(facts: ServerFacts) -> tuple[SourceDisk, ...]:
    """Return the disks in the order of the guest's device names, the root first."""
    return tuple(_disks(facts))


def _disks(facts: ServerFacts) -> Iterator[SourceDisk]:
    if not facts.booted_from_volume:
        yield _image_root(facts)
    root = facts.root_volume.get("id")
    ordered = sorted(by_device(facts.attachments), key=lambda a: volume_id(a) != root)
    for attachment in ordered:
        yield _volume_disk(facts, attachment, is_root=volume_id(attachment) == root)


def _image_root(facts: ServerFacts) -> SourceDisk:
    server = facts.server
    device = _device_name(server.get("OS-EXT-SRV-ATTR:root_device_name")) or "root"
    size = root_size(facts)
    return SourceDisk(
        key=device,
        name=f"{server['name']}-root",
        size_bytes=size,
        bus=_bus(facts, device),
        aliases=("root",) if device != "root" else (),
        handle=f"{ROOT_HANDLE}{server['id']}",
        boot_order=1,
        unsupported=None if size else "its size is not known: the flavor has no disk and the image is gone",
    )


def root_size(facts: ServerFacts) -> int:
    """Return the virtual size of a root disk that was made from an image; 0 when nobody tells.

    Nova grows the image to the flavor's `disk` (GiB); a flavor with 0 leaves it as large as the image is.
    """
    flavor_gib = int(facts.flavor.get("disk") or 0)
    if flavor_gib:
        return flavor_gib * GIB
    image = facts.image
    size = int(image.get("virtual_size") or 0)
    if not size and image.get("disk_format") == "raw":
        size = int(image.get("size") or 0)
    return -(-size // SECTOR) * SECTOR


def _volume_disk(facts: ServerFacts, attachment: JSON, *, is_root: bool) -> SourceDisk:
    identifier = volume_id(attachment)
    volume = facts.volumes.get(identifier, {})
    device = _device_name(attachment.get("device"))
    key = device or identifier
    name = str(volume.get("name") or identifier)
    return SourceDisk(
        key=key,
        name=name,
        size_bytes=int(volume.get("size") or 0) * GIB,
        bus=_bus(facts, device),
        aliases=tuple(alias for alias in dict.fromkeys((identifier, name)) if alias != key),
        handle=identifier,
        boot_order=1 if is_root else None,
        unsupported=_unsupported(volume),
        serial=identifier,  # what Nova's libvirt driver sets, so that /dev/disk/by-id stays
    )


def _unsupported(volume: JSON) -> str | None:
    if not volume:
        return "its volume is not to be seen in this project"
    if volume.get("encrypted"):
        return "encrypted volume: a copy of it holds ciphertext"
    if volume.get("multiattach") or len(volume.get("attachments") or ()) > 1:
        return "multi-attach volume: another server may write to it"
    if volume.get("status") not in ("in-use", "available"):
        return f"its volume's status is {volume.get('status')!r}"
    return None


def _device_name(device: object) -> str:
    return str(device or "").removeprefix("/dev/")


def _bus(facts: ServerFacts, device: str) -> DiskBus | None:
    """Return the bus: what the image asks for, else what the name of the device gives away."""
    asked = _BUSES.get(str(facts.hints.get("hw_disk_bus") or "").lower())
    if asked:
        return asked
    return next((bus for prefix, bus in _BUS_BY_DEVICE.items() if device.startswith(prefix)), None)
