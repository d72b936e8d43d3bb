"""Virtual sizes in the headers of disk images. Pure.

Descriptors round the capacity, or got it from a form: what counts is what the image itself says.
"""

from __future__ import annotations

import struct

HEAD_BYTES = 512
_SECTOR = 512
# Format: mark at the beginning, where the size stands, in which form, its unit. Sources: Virtual Disk Format
# 5.0; docs/interop/qcow2.txt of QEMU; VirtualBox's VDICore.h (cbDisk); Microsoft's VHD specification (of a
# dynamic disk a copy of the footer stands at the beginning; a fixed one has only the footer).
_SIZES = {
    "vmdk": (b"KDMV", 12, "<Q", _SECTOR),
    "qcow2": (b"QFI\xfb", 24, ">Q", 1),
    "vdi": (b"<<< ", 0x170, "<Q", 1),
    "vpc": (b"conectix", 48, ">Q", 1),
}


def virtual_size(image_format: str, head: bytes, length: int) -> int | None:
    """Return the size of the disk in an image, in bytes; `None` where its beginning does not tell.

    Args:
        image_format: As declared.
        head: The first `HEAD_BYTES`.
        length: Bytes of the whole image.
    """
    if image_format == "raw":
        return length
    mark, place, form, unit = _SIZES.get(image_format, (b"", 0, "", 0))
    if not form or len(head) < HEAD_BYTES or not head.startswith(mark):
        return None
    return int(struct.unpack_from(form, head, place)[0]) * unit
