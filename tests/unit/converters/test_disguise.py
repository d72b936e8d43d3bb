"""Raw disks whose own bytes somebody behind us would take for something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converters.errors import UnsupportedFormat
from converters.formats import HEAD_BYTES, unpacked_as
from converters.raw import COPY_BYTES, SparseRawFile
from tests.unit.converters.images import decode, mixed_disk, qemu_encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 8 * 1024 * 1024


@pytest.mark.parametrize("disguise", ["qcow2", "vmdk", "vhdx", "vdi"])
def test_a_raw_disk_in_disguise_is_not_handed_on_to_those_who_guess(tmp_path: Path, disguise: str) -> None:
    """A guest that writes a header into its raw disk must make nobody read files by its name."""
    inner = qemu_encode(mixed_disk(SIZE), tmp_path, disguise)
    inner = inner.ljust(-(-len(inner) // SIZE) * SIZE, b"\0")
    with pytest.raises(UnsupportedFormat, match=f"those of a {disguise} image"):
        decode("raw", [inner], tmp_path / "disk", len(inner))


@pytest.mark.parametrize(
    ("head", "disguise"),
    [
        (b'# Disk DescriptorFile\n \r\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n', "vmdk"),
        (b"COWD\x01\0\0\0", "vmdk"),
        (b"conectix\0\0\0\2", "vpc"),
        (b"QED\0", "qed"),
        (b"WithoutFreeSpace\2\0\0\0", "parallels"),
    ],
)
def test_nor_is_one_with_any_other_mark_that_qemu_looks_for(
    tmp_path: Path, head: bytes, disguise: str
) -> None:
    with pytest.raises(UnsupportedFormat, match=f"those of a {disguise} image"):
        decode("raw", [head.ljust(SIZE, b"\0")], tmp_path / "disk", SIZE)


def test_a_disk_in_disguise_is_refused_as_soon_as_its_beginning_is_known(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"QED\0".ljust(COPY_BYTES, b"\0")
        pytest.fail("it was read on")

    with pytest.raises(UnsupportedFormat, match="those of a qed image"):
        decode("raw", chunks(), tmp_path / "disk", 1 << 40)


def test_a_disk_in_disguise_is_refused_whatever_it_came_in(tmp_path: Path) -> None:
    inner = b"QED\0".ljust(SIZE, b"\1")
    image = qemu_encode(inner, tmp_path, "qcow2")
    with pytest.raises(UnsupportedFormat, match="those of a qed image"):
        decode("qcow2", [image], tmp_path / "converted", SIZE)
    with SparseRawFile(tmp_path / "pieces", SIZE) as file:
        file.pwritev(0, [inner[:512]])
        with pytest.raises(UnsupportedFormat, match="those of a qed image"):
            file.finish()


def test_a_disk_that_is_encrypted_as_a_whole_is_told_with_its_remedy(tmp_path: Path) -> None:
    """QEMU takes LUKS 1 for a format, which neither Longhorn nor CDI attaches; version 2 it does not know."""
    header = b"LUKS\xba\xbe\x00"
    with pytest.raises(UnsupportedFormat, match=r"a luks image.*convert --type luks2"):
        decode("raw", [(header + b"\1aes").ljust(SIZE, b"\0")], tmp_path / "one", SIZE)
    decode("raw", [(header + b"\2").ljust(SIZE, b"\0")], tmp_path / "two", SIZE)


@pytest.mark.parametrize(
    "head", [b"#!/bin/sh\necho version=1\n", b"# version=1\n", b"version=4\n", b"\nconectix", b"\x1f\x8b\x08"]
)
def test_a_raw_disk_that_qemu_takes_for_one_is_let_through(tmp_path: Path, head: bytes) -> None:
    decode("raw", [head.ljust(SIZE, b"\0")], tmp_path / "disk", SIZE)


@pytest.mark.parametrize(
    ("head", "packed"),
    [
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\xfd7zXZ\0\0\4", "xz"),
        (b"\x28\xb5\x2f\xfd\0", "zstd"),
        (b"\x1f\x8c", None),
        (b"", None),
    ],
)
def test_what_cdi_would_unpack_is_known(head: bytes, packed: str | None) -> None:
    assert unpacked_as(head.ljust(HEAD_BYTES, b"\0")) == packed
