"""VMDK streams put together by hand, with the lies that a test wants, and what must come of them."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest

from converters.errors import ConversionError
from tests.lab import streamvmdk
from tests.lab.streamvmdk import DIRECTORY_AT_END, GRAIN, GRAIN_SECTORS, SECTOR, MarkerType
from tests.unit.converters.images import decode, in_pieces, mixed_disk

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 6 * GRAIN
QEMU_OPTIONS = ["subformat=streamOptimized", "subformat=streamOptimized,zeroed_grain=on"]


def raises_typed(image: bytes, target: Path, size: int, chunk: int = 4096) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        decode("vmdk", in_pieces(image, chunk), target, size)
    return caught.value


class Stream:
    """A stream put together by hand, as ESXi writes it, with the lies that a test wants."""

    def __init__(
        self, size: int = SMALL, *, grain_sectors: int = GRAIN_SECTORS, compressed: bool = True
    ) -> None:
        self.size = size
        self.grain_sectors = grain_sectors
        self.compressed = compressed
        self.out = io.BytesIO()
        self.sectors: dict[int, int] = {}
        self.tables: dict[int, int] = {}
        start = self.header(DIRECTORY_AT_END) + streamvmdk.descriptor(size)
        self.out.write(start.ljust(GRAIN, b"\0"))

    def header(self, directory: int) -> bytes:
        header = bytearray(streamvmdk.header(self.size, directory))
        struct.pack_into("<Q", header, 20, self.grain_sectors)
        if not self.compressed:
            (flags,) = struct.unpack_from("<I", header, 8)
            struct.pack_into("<I", header, 8, flags & ~streamvmdk.FLAG_COMPRESSED)
            struct.pack_into("<H", header, 77, 0)
        return bytes(header)

    @staticmethod
    def grain(lba: int, deflated: bytes, length: int | None = None) -> bytes:
        data = struct.pack("<QI", lba, len(deflated) if length is None else length) + deflated
        return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")

    def add_grain(self, lba: int, deflated: bytes, length: int | None = None) -> None:
        self.sectors[lba // self.grain_sectors] = self.out.tell() // SECTOR
        self.out.write(self.grain(lba, deflated, length))

    def add_block(self, kind: int, data: bytes, sectors: int | None = None) -> int:
        self.out.write(streamvmdk.marker(kind, len(data) // SECTOR if sectors is None else sectors))
        at = self.out.tell() // SECTOR
        self.out.write(data)
        return at

    def add_tables(self) -> None:
        for table in sorted({grain // 512 for grain in self.sectors}):
            entries = [self.sectors.get(table * 512 + place, 0) for place in range(512)]
            self.tables[table] = self.add_block(MarkerType.GRAIN_TABLE, struct.pack("<512I", *entries))

    def add_directory(self) -> int:
        count = -(-self.size // (512 * self.grain_sectors * SECTOR))
        data = struct.pack(f"<{count}I", *(self.tables.get(table, 0) for table in range(count)))
        return self.add_block(MarkerType.GRAIN_DIRECTORY, data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0"))

    def add_end(self, directory: int) -> None:
        self.add_block(MarkerType.FOOTER, self.header(directory))
        self.add_block(MarkerType.END_OF_STREAM, b"")

    def close(self) -> bytes:
        self.add_tables()
        self.add_end(self.add_directory())
        return self.out.getvalue()


def noise(seed: int = 0, length: int = GRAIN) -> bytes:
    return mixed_disk(length, seed, density=1)
