"""The structures of a sparse extent as VMware's "Virtual Disk Format 5.0" lays them out. Parsing only.

All integers are little-endian; offsets and lengths are in sectors of 512 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from converters.errors import CorruptImage, UnsupportedFormat
from converters.sink import SECTOR_BYTES, Buffer

MAGIC = b"KDMV"
# "Hosted Sparse Extents": magicNumber, version, flags, capacity, grainSize, descriptorOffset, descriptorSize,
# numGTEsPerGT, rgdOffset, gdOffset, overHead, uncleanShutdown, four characters of newline detection,
# compressAlgorithm, padding.
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_NEWLINES = b"\n \r\n"

FLAG_NEWLINES = 1 << 0
FLAG_REDUNDANT_TABLES = 1 << 1
FLAG_ZEROED_GRAINS = 1 << 2  # a grain table entry of 1 means a grain of zeros that is not stored
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17
GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF  # the grain directory follows the grains; the footer says where
_DEFLATE = 1

TABLE_ENTRIES = 512  # grain table entries per grain table, in everything VMware ever wrote
TABLE_BYTES = TABLE_ENTRIES * 4
# Those of 64 TiB in grains of 64 KiB; vSphere's largest disk has 62. So what is kept of them is bounded.
MAX_TABLES = 1 << 21
MIN_GRAIN_SECTORS = 8
MAX_GRAIN_SECTORS = 4096  # 2 MiB; writers use 64 KiB. It bounds the memory of a grain.

# "Stream-Optimized Compressed Sparse Extents". A grain: LBA, compressed size, data, padding to a sector.
# Size 0 makes it a marker of metadata: number of sectors that follow, 0, type, padding to a sector.
GRAIN_MARKER = struct.Struct("<QI")
MARKER_TYPE = struct.Struct("<I")


class MarkerType(IntEnum):
    """What follows a marker of metadata."""

    END_OF_STREAM = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3


@dataclass(frozen=True, slots=True)
class SparseExtentHeader:
    """The header, and the footer, which has the same form; lengths and offsets in sectors."""

    version: int
    flags: int
    capacity: int
    grain_sectors: int
    descriptor_offset: int
    descriptor_sectors: int
    table_entries: int
    redundant_directory_offset: int
    directory_offset: int
    overhead: int

    @property
    def grain_bytes(self) -> int:
        """Size of an inflated grain."""
        return self.grain_sectors * SECTOR_BYTES

    @property
    def table_count(self) -> int:
        """Number of grain tables, which is the number of entries of the grain directory."""
        return -(-self.capacity // (self.grain_sectors * self.table_entries))

    @property
    def is_stream(self) -> bool:
        """Whether the grains are marked, so that the extent can be read as a stream."""
        return bool(self.flags & FLAG_MARKERS)

    @property
    def is_compressed(self) -> bool:
        """Whether the grains are compressed, as in every stream that products write."""
        return bool(self.flags & FLAG_COMPRESSED)


def parse_header(sector: Buffer) -> SparseExtentHeader:
    """Parse a header or footer of any sparse extent.

    Raises:
        CorruptImage: it is none, or it contradicts itself.
        UnsupportedFormat: a version or a geometry that no known writer makes.
    """
    magic, *numbers, _unclean_shutdown, newlines, compress_algorithm = _HEADER.unpack(sector)
    if magic != MAGIC:
        raise CorruptImage("the header of the VMDK does not begin with its magic number")
    header = SparseExtentHeader(*numbers)
    if header.version not in {1, 2, 3}:
        raise UnsupportedFormat(f"VMDK of version {header.version}")
    if header.flags & FLAG_NEWLINES and newlines != _NEWLINES:
        raise CorruptImage("the VMDK was damaged by a transfer in text mode (newline detection)")
    grain = header.grain_sectors
    if grain & (grain - 1) or not MIN_GRAIN_SECTORS <= grain <= MAX_GRAIN_SECTORS:
        raise UnsupportedFormat(f"VMDK with grains of {grain} sectors")
    if header.table_entries != TABLE_ENTRIES:
        raise UnsupportedFormat(f"VMDK with {header.table_entries} entries per grain table")
    if header.table_count > MAX_TABLES:
        raise UnsupportedFormat(f"VMDK with {header.table_count} grain tables")
    _check_compression(header, compress_algorithm)
    if header.directory_offset == GD_AT_END and not header.is_stream:
        raise CorruptImage("the header of the VMDK refers to a footer, which only streams have")
    return header


def _check_compression(header: SparseExtentHeader, algorithm: int) -> None:
    if header.is_compressed and not header.is_stream:
        raise UnsupportedFormat("VMDK with compressed grains that are not marked")
    if algorithm and not header.is_compressed:
        raise CorruptImage("the header of the VMDK has a compression algorithm for grains that have none")
    if header.is_compressed and algorithm != _DEFLATE:
        raise UnsupportedFormat(f"VMDK with compression algorithm {algorithm}")
