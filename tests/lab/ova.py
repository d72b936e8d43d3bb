"""OVA archives for tests: OVF descriptors, manifests and tar, of any size without being stored anywhere.

The forms are those of ovftool (descriptor, manifest, disks) unless something else is asked for.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 512
_PIECE = 1 << 20
STREAM_OPTIMIZED = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
    'xmlns:vmw="http://www.vmware.com/schema/ovf"'
)


@dataclass(frozen=True, slots=True)
class Zeros:
    """So many bytes of zeros."""

    length: int


Content: TypeAlias = bytes | Path | Zeros


def length_of(content: Content) -> int:
    """Return the bytes of a content."""
    if isinstance(content, Zeros):
        return content.length
    return content.stat().st_size if isinstance(content, Path) else len(content)


def read_content(content: Content, offset: int, length: int) -> bytes:
    """Return some bytes of a content."""
    if isinstance(content, Zeros):
        return bytes(max(0, min(length, content.length - offset)))
    if isinstance(content, bytes):
        return content[offset : offset + length]
    with content.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def pieces(content: Content) -> Iterator[bytes]:
    """Yield a content bit by bit."""
    for offset in range(0, length_of(content), _PIECE):
        yield read_content(content, offset, _PIECE)


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """A disk of the descriptor.

    Attributes:
        file: Name of its file; empty for a blank disk.
        capacity: Bytes.
        size: Bytes of the file, as the descriptor has them; 0 leaves them out.
        form: URI of the format.
        attributes: More attributes of the `File`.
    """

    file: str
    capacity: int
    size: int = 0
    form: str = STREAM_OPTIMIZED
    attributes: str = ""


def descriptor(
    disks: Sequence[OvfDisk],
    *,
    name: str = "web",
    networks: Sequence[str] = ("Servers",),
    mac: str = "",
    cpus: int = 2,
    memory_mib: int = 256,
    annotation: str = "",
    controller: str = "VirtualSCSI",
) -> bytes:
    """Return the OVF descriptor of one machine."""
    files = "".join(
        f'<File ovf:id="file{i}" ovf:href="{disk.file}"'
        + (f' ovf:size="{disk.size}"' if disk.size else "")
        + f" {disk.attributes}/>"
        for i, disk in enumerate(disks)
        if disk.file
    )
    entries = "".join(
        f'<Disk ovf:diskId="disk{i}" ovf:capacity="{disk.capacity}"'
        + (f' ovf:fileRef="file{i}" ovf:format="{disk.form}"' if disk.file else "")
        + "/>"
        for i, disk in enumerate(disks)
    )
    rows = [
        _item(1, 3, VirtualQuantity=cpus),
        _item(2, 4, VirtualQuantity=memory_mib, AllocationUnits="byte * 2^20"),
        _item(3, 6, ResourceSubType=controller, Address=0),
        *(
            _item(10 + i, 17, Parent=3, AddressOnParent=i, HostResource=f"ovf:/disk/disk{i}")
            for i in range(len(disks))
        ),
        *(
            _item(
                100 + i,
                10,
                Connection=network,
                ResourceSubType="VmxNet3",
                **({"Address": mac} if mac else {}),
            )
            for i, network in enumerate(networks)
        ),
    ]
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Envelope {_NAMESPACES}>\n'
        f"<References>{files}</References>\n<DiskSection><Info/>{entries}</DiskSection>\n<NetworkSection><Info/>"
        + "".join(f'<Network ovf:name="{network}"/>' for network in networks)
        + f'</NetworkSection>\n<VirtualSystem ovf:id="{name}"><Info/><Name>{name}</Name>'
        '<OperatingSystemSection ovf:id="96" vmw:osType="debian11_64Guest"><Info/></OperatingSystemSection>'
        f"<VirtualHardwareSection><Info/>\n{''.join(rows)}</VirtualHardwareSection>"
        + (
            f"<AnnotationSection><Info/><Annotation>{annotation}</Annotation></AnnotationSection>"
            * bool(annotation)
        )
        + "</VirtualSystem>\n</Envelope>\n"
    )
    return text.encode()


def _item(identifier: int, kind: int, **fields: object) -> str:
    told = {"InstanceID": identifier, "ResourceType": kind, **fields}
    return (
        "<Item>" + "".join(f"<rasd:{key}>{value}</rasd:{key}>" for key, value in told.items()) + "</Item>\n"
    )


def manifest(files: Mapping[str, Content], algorithm: str = "sha256") -> bytes:
    """Return the manifest of files."""
    lines = []
    for name, content in files.items():
        digest = hashlib.new(algorithm)
        for piece in pieces(content):
            digest.update(piece)
        lines.append(f"{algorithm.upper()}({name})= {digest.hexdigest()}\n")
    return "".join(lines).encode()


def archive(members: Mapping[str, Content]) -> list[Content]:
    """Return a tar archive in parts, as GNU tar writes it; larger than 8 GiB where it has to be."""
    parts: list[Content] = []
    for name, content in members.items():
        info = tarfile.TarInfo(name)
        info.size = length_of(content)
        parts += [info.tobuf(tarfile.GNU_FORMAT), content, bytes(-info.size % _BLOCK)]
    return [*parts, bytes(2 * _BLOCK)]


def package(
    disks: Mapping[str, Content], capacities: Sequence[int], *, manifest_at: str = "second", **options: object
) -> dict[str, Content]:
    """Return the members of an OVA whose disks are streamOptimized VMDKs, in their order.

    Args:
        disks: Files by name.
        capacities: Bytes of each disk.
        manifest_at: `second`, behind the descriptor; `last`, behind the disks; `nowhere`.
        options: Of `descriptor`.
    """
    entries = [
        OvfDisk(name, capacity, length_of(content))
        for (name, content), capacity in zip(disks.items(), capacities, strict=True)
    ]
    papers: dict[str, Content] = {"web.ovf": descriptor(entries, **options)}  # type: ignore[arg-type]
    sums: dict[str, Content] = {}
    if manifest_at != "nowhere":
        sums["web.mf"] = manifest({**papers, **disks})
    return {**papers, **sums, **disks} if manifest_at == "second" else {**papers, **disks, **sums}
