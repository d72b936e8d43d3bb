"""Names of disk formats and the marks by which their files are known. Nothing here reads a file.

A format is declared by the source and never guessed from content: a guest can write any header into its raw
disk. The marks serve to refuse what does not even begin like what it was declared as, and raw images that
those who read them after us, and guess, would take for something else.
"""

from __future__ import annotations

import re
from enum import StrEnum


class DiskFormat(StrEnum):
    """Formats that a source may offer; the words are those of `qemu-img`, and of Glance where they agree.

    `blank` is a disk that is empty at first: a stream of no bytes.
    """

    RAW = "raw"
    VMDK = "vmdk"
    QCOW2 = "qcow2"
    VHDX = "vhdx"
    VHD = "vpc"
    VDI = "vdi"
    BLANK = "blank"


_MARKS = {
    DiskFormat.VMDK: (0, b"KDMV"),  # hosted sparse extent, Virtual Disk Format 5.0
    DiskFormat.QCOW2: (0, b"QFI\xfb"),
    DiskFormat.VHDX: (0, b"vhdxfile"),  # [MS-VHDX] 2.2.1
    DiskFormat.VDI: (0x40, b"\x7f\x10\xda\xbe"),
}  # a raw image has no mark, and a fixed VHD has it at its end
# What else QEMU takes an image for whose format it is not told (QEMU 9.1, `*_probe` in block/*.c).
_GUESSED = (
    ("luks", b"LUKS\xba\xbe\x00\x01"),  # version 2 is raw to QEMU
    ("vmdk", b"COWD"),
    ("vpc", b"conectix"),
    ("qed", b"QED\x00"),
    ("parallels", b"WithoutFreeSpace"),
    ("parallels", b"WithouFreSpacExt"),
    ("bochs", b"Bochs Virtual HD Image\x00"),
    ("cloop", b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
)
_DESCRIPTOR = re.compile(rb"(#[^\n]*\n|[ \r]*\n)*version=[123]\r?\n")  # of a VMDK, which names other files
_PACKED = (("gzip", b"\x1f\x8b"), ("xz", b"\xfd7zXZ\x00"), ("zstd", b"\x28\xb5\x2f\xfd"))
HEAD_BYTES = 512  # enough for every mark, and less than the smallest image of every format with a mark


def begins_like(head: bytes, declared: DiskFormat) -> bool:
    """Tell whether the first `HEAD_BYTES` of a file, or fewer, can be those of a file of that format."""
    offset, mark = _MARKS.get(declared, (0, b""))
    found = head[offset : offset + len(mark)]
    return mark.startswith(found) if len(head) < HEAD_BYTES else found == mark


def looks_like(head: bytes) -> str | None:
    """Return the format that a reader who guesses would take a raw image for, by its first `HEAD_BYTES`.

    Longhorn and CDI ask `qemu-img` or look for marks by themselves, and then read what the header says: other
    bytes than the guest's, or files of the node that it names (as in CVE-2024-32498 of OpenStack). What they
    do not support ends in a volume that cannot be attached, or in an import that never ends: `luks` is such a
    format, and a disk that is encrypted as a whole by LUKS 1 is of it (longhorn-engine, `OpenBackingFile`;
    CDI, `pkg/image/qemu.go`).
    """
    for known, (offset, mark) in _MARKS.items():
        if head[offset : offset + len(mark)] == mark:
            return known
    for name, mark in _GUESSED:
        if head.startswith(mark):
            return name
    return DiskFormat.VMDK if _DESCRIPTOR.match(head) else None


def unpacked_as(head: bytes) -> str | None:
    """Return the compression that CDI would undo in a raw image, whatever it is declared as.

    Its importer looks for these marks in all that it downloads (`pkg/image/filefmt.go`; for zstd's in newer
    releases).
    """
    return next((name for name, mark in _PACKED if head.startswith(mark)), None)
