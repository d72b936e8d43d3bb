"""Images that point to other files: refused before `qemu-img` opens them, which would follow.

A qcow2 may name a backing file or an external data file, a VMDK a parent or extents: any path it likes. A
differencing VHD names its parent too; `qemu-img` does not look for it, and takes what is missing for zeros.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from converters.errors import CorruptImage, UnsupportedFormat, scratch_errors
from converters.formats import HEAD_BYTES, DiskFormat
from converters.sink import SECTOR_BYTES
from converters.vmdk.descriptor import MAX_SECTORS, refuse_delta
from converters.vmdk.layout import MAGIC, parse_header

if TYPE_CHECKING:
    from pathlib import Path

# docs/interop/qcow2.txt of QEMU: magic, version, backing_file_offset; incompatible_features in byte 72.
_QCOW2 = struct.Struct(">4sIQ")
_QCOW2_FEATURES = struct.Struct(">Q")
_QCOW2_FEATURES_AT = 72
_QCOW2_EXTERNAL_DATA = 1 << 2

# QEMU takes the descriptor from behind the header, wherever and however long the header says it is, and a
# parent from its name alone, whatever its identifier (block/vmdk.c: `desc_offset`, `vmdk_parent_open`).
_DESCRIPTOR_SECTORS = 20

# "Virtual Hard Disk Image Format Specification": the footer; all but fixed disks have a copy of it in front.
_VHD_COOKIE = b"conectix"
_VHD_FOOTER_BYTES = 512
_VHD_TYPE = struct.Struct(">I")
_VHD_TYPE_AT = 60
_VHD_DIFFERENCING = 4


def refuse_references(path: Path, image_format: DiskFormat) -> None:
    """Return if the image has all its data in itself.

    Raises:
        UnsupportedFormat: it refers to another file.
        CorruptImage: its header cannot be understood.
    """
    # QEMU's drivers of VHDX and VDI refuse differencing disks themselves.
    if image_format is DiskFormat.QCOW2:
        _check_qcow2(_read(path, 0, HEAD_BYTES))
    elif image_format is DiskFormat.VMDK:
        _check_vmdk(path)
    elif image_format is DiskFormat.VHD:
        _check_vhd(path)


def _check_qcow2(head: bytes) -> None:
    if len(head) < _QCOW2_FEATURES_AT:
        raise CorruptImage("the qcow2 image has no complete header")
    _magic, version, backing_file_offset = _QCOW2.unpack_from(head)
    if backing_file_offset:
        raise UnsupportedFormat("the qcow2 image needs a backing file")
    if version >= 3 and len(head) >= _QCOW2_FEATURES_AT + _QCOW2_FEATURES.size:  # noqa: PLR2004  # version 3
        (features,) = _QCOW2_FEATURES.unpack_from(head, _QCOW2_FEATURES_AT)
        if features & _QCOW2_EXTERNAL_DATA:
            raise UnsupportedFormat("the qcow2 image keeps its data in another file")


def _check_vmdk(path: Path) -> None:
    head = _read(path, 0, HEAD_BYTES)
    if not head.startswith(MAGIC):
        raise UnsupportedFormat("the VMDK is a descriptor of other files, and not a disk in one file")
    header = parse_header(head.ljust(HEAD_BYTES, b"\0"))
    if not header.capacity:
        raise UnsupportedFormat("the VMDK keeps its data in other files")
    length = min(header.descriptor_sectors, MAX_SECTORS) * SECTOR_BYTES
    for descriptor in (
        _read(path, SECTOR_BYTES, _DESCRIPTOR_SECTORS * SECTOR_BYTES),
        _read(path, header.descriptor_offset * SECTOR_BYTES, length),
    ):
        refuse_delta(descriptor)


def _check_vhd(path: Path) -> None:
    size = path.stat().st_size
    for at in (0, max(0, size - _VHD_FOOTER_BYTES)):
        footer = _read(path, at, _VHD_FOOTER_BYTES)
        if len(footer) == _VHD_FOOTER_BYTES and footer.startswith(_VHD_COOKIE):
            (kind,) = _VHD_TYPE.unpack_from(footer, _VHD_TYPE_AT)
            if kind == _VHD_DIFFERENCING:
                raise UnsupportedFormat("the VHD is a differencing disk: it needs its parent")


def _read(path: Path, offset: int, length: int) -> bytes:
    with scratch_errors(f"{path.name} cannot be read"), path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
