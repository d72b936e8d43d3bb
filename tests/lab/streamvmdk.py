"""Writes VMDK files of the stream-optimized kind, as vCenter and OVF tools send them, and odder ones.

Source of the format: "Virtual Disk Format 5.0", VMware technical note (December 2011): little-endian, units
of 512-byte sectors; a header and a descriptor; every 64 KiB grain deflated (RFC 1950) behind a marker; a
grain table behind every 512 grains; a grain directory, a footer (the header again, now with the directory's
place) and an end-of-stream marker. Grains that are all zero are left out.

It is an encoder for tests: what no product writes but the format allows can be asked for, and the pieces are
public, for those who need an illegal file.
"""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTOR = 512
GRAIN_SECTORS = 128
GRAIN = GRAIN_SECTORS * SECTOR
TABLE_ENTRIES = 512  # grain table entries per grain table: one table maps 32 MiB
TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
DIRECTORY_AT_END = 0xFFFF_FFFF_FFFF_FFFF

MAGIC = b"KDMV"
FLAG_NEWLINE_TEST = 1 << 0
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17
COMPRESS_DEFLATE = 1
_DESCRIPTOR_SECTOR = 1
_DESCRIPTOR_SECTORS = 20
_UNKNOWN_MARKER = 0x4C4142  # a type that the specification does not have

ReadAt = Callable[[int, int], bytes]
"""`read(offset, length)`: that many bytes of the disk."""


class MarkerType(IntEnum):
    """Types of the markers that are not grains."""

    END_OF_STREAM = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3


@dataclass(frozen=True, slots=True)
class Style:
    """How the file is written; the defaults are what ESXi sends.

    Attributes:
        footer: Directory at the end, told by a footer. Without: the header tells where the directory is, and
            the stream ends with the end-of-stream marker.
        compressed: Without: a plain hosted sparse extent (`monolithicSparse`), which has no markers either.
        zero_grains: Write grains that are all zero too.
        short_last_grain: End the last grain at the end of the disk instead of filling it up with zeros.
        shuffle_seed: Write the grains in an order made from this number, all tables behind them.
        unknown_markers: So many metadata markers of a type that nobody knows are strewn in; a reader must
            skip them by their length.
        level: zlib's compression level; 0 makes grains longer than their data.
    """

    footer: bool = True
    compressed: bool = True
    zero_grains: bool = False
    short_last_grain: bool = False
    shuffle_seed: int | None = None
    unknown_markers: int = 0
    level: int = 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """What was written: length of the stream, and the places (in grains) that it holds, in its order."""

    stream_bytes: int
    grains: tuple[int, ...]


def header(capacity_bytes: int, directory_sector: int, *, compressed: bool = True) -> bytes:
    """Return a sparse extent header (specification: `SparseExtentHeader`), one sector long."""
    flags = FLAG_NEWLINE_TEST | (FLAG_COMPRESSED | FLAG_MARKERS if compressed else 0)
    return struct.pack(
        "<4sIIQQQQIQQQB4sH433x",
        MAGIC,
        3 if compressed else 1,
        flags,
        _sectors(capacity_bytes),
        GRAIN_SECTORS,
        _DESCRIPTOR_SECTOR,
        _DESCRIPTOR_SECTORS,
        TABLE_ENTRIES,
        0,  # no redundant directory
        directory_sector,
        GRAIN_SECTORS,  # overhead: the first grain starts here
        0,  # shut down cleanly
        b"\n \r\n",
        COMPRESS_DEFLATE if compressed else 0,
    )


def marker(kind: int, sectors: int) -> bytes:
    """Return the marker of a metadata block of so many sectors, which follow it."""
    return struct.pack("<QII496x", sectors, 0, kind)


def grain(lba: int, data: bytes, level: int = 1) -> bytes:
    """Return a compressed grain with its marker, filled up to whole sectors."""
    deflated = zlib.compress(data, level)
    return _padded(struct.pack("<QI", lba, len(deflated)) + deflated)


def descriptor(capacity_bytes: int, create_type: str = "streamOptimized") -> bytes:
    """Return the text that describes the disk, filled up to its sectors."""
    sectors = _sectors(capacity_bytes)
    text = (
        "# Disk DescriptorFile\nversion=1\nCID=7e57d15c\nparentCID=ffffffff\n"
        f'createType="{create_type}"\n\n'
        f'# Extent description\nRDONLY {sectors} SPARSE "disk.vmdk"\n\n'
        "# The Disk Data Base\n#DDB\n\n"
        f'ddb.adapterType = "lsilogic"\nddb.geometry.cylinders = "{max(sectors // (255 * 63), 1)}"\n'
        'ddb.geometry.heads = "255"\nddb.geometry.sectors = "63"\nddb.virtualHWVersion = "21"\n'
    )
    return text.encode().ljust(_DESCRIPTOR_SECTORS * SECTOR, b"\0")


def encode(
    source: Path | bytes | ReadAt,
    destination: Path | BinaryIO,
    *,
    size_bytes: int | None = None,
    style: Style | None = None,
) -> Encoded:
    """Write a disk as VMDK, holding one grain in memory at a time.

    Args:
        source: A raw file (its holes are not read), bytes, or a function that reads.
        destination: A file to make, or one open for writing; it must be seekable without a footer.
        size_bytes: Capacity, a multiple of 512; needed for a function.
        style: How.

    Raises:
        ValueError: the size is missing or not a multiple of 512.
    """
    if isinstance(destination, Path):
        with destination.open("wb") as out:
            return encode(source, out, size_bytes=size_bytes, style=style)
    if isinstance(source, Path):
        with source.open("rb") as raw:
            size = raw.seek(0, os.SEEK_END) if size_bytes is None else size_bytes
            reader = _reader(raw)
            return _Encoder(reader, size, destination, style or Style(), list(_data_grains(raw, size))).run()
    if isinstance(source, bytes):
        buffer = io.BytesIO(source)
        return encode(_reader(buffer), destination, size_bytes=len(source), style=style)
    if size_bytes is None:
        raise ValueError("a function needs a size")
    candidates = list(range(-(-size_bytes // GRAIN)))
    return _Encoder(source, size_bytes, destination, style or Style(), candidates).run()


class _Encoder:
    """One file in the making; `_grain_sectors` and `_table_sectors` say where its parts went."""

    def __init__(self, read: ReadAt, size: int, out: BinaryIO, style: Style, candidates: list[int]) -> None:
        if size % SECTOR:
            raise ValueError(f"{size} bytes are no whole sectors")
        self._read, self._size, self._out = read, size, out
        self._style = style if style.compressed else replace(style, footer=False, unknown_markers=0)
        self._candidates = range(-(-size // GRAIN)) if style.zero_grains else candidates
        self._grain_sectors: dict[int, int] = {}
        self._table_sectors: dict[int, int] = {}
        self._position = 0

    def run(self) -> Encoded:
        style = self._style
        start = self._header(DIRECTORY_AT_END if style.footer else 0)
        kind = "streamOptimized" if style.compressed else "monolithicSparse"
        self._write((start + descriptor(self._size, kind)).ljust(GRAIN, b"\0"))
        strewn = self._places_of_unknown_markers()
        for number, index in enumerate(self._order()):
            for _ in range(strewn.count(number)):
                self._write(marker(_UNKNOWN_MARKER, 2) + b"?" * 2 * SECTOR)
            if style.shuffle_seed is None:
                self._tables(before=index // TABLE_ENTRIES)
            self._grain(index)
        self._tables(before=-(-self._size // (GRAIN * TABLE_ENTRIES)))
        self._end()
        return Encoded(stream_bytes=self._position, grains=tuple(self._grain_sectors))

    def _header(self, directory_sector: int) -> bytes:
        return header(self._size, directory_sector, compressed=self._style.compressed)

    def _order(self) -> list[int]:
        order = list(self._candidates)
        if self._style.shuffle_seed is not None:
            random.Random(self._style.shuffle_seed).shuffle(order)  # noqa: S311  # reproducible on purpose
        return order

    def _places_of_unknown_markers(self) -> list[int]:
        count = max(len(self._candidates), 1)
        return [
            place * count // max(self._style.unknown_markers, 1)
            for place in range(self._style.unknown_markers)
        ]

    def _grain(self, index: int) -> None:
        length = min(GRAIN, self._size - index * GRAIN)
        data = self._read(index * GRAIN, length)
        if not self._style.zero_grains and not any(data):
            return
        if not self._style.short_last_grain or not self._style.compressed:
            data = data.ljust(GRAIN, b"\0")
        self._grain_sectors[index] = self._position // SECTOR
        self._write(grain(index * GRAIN_SECTORS, data, self._style.level) if self._style.compressed else data)

    def _tables(self, *, before: int) -> None:
        """Write the tables that are not written yet, below number `before`, of those that have grains."""
        wanted = sorted(
            {index // TABLE_ENTRIES for index in self._grain_sectors} - self._table_sectors.keys()
        )
        for table in wanted:
            if table < before:
                first = table * TABLE_ENTRIES
                entries = [self._grain_sectors.get(first + place, 0) for place in range(TABLE_ENTRIES)]
                self._table_sectors[table] = self._block(MarkerType.GRAIN_TABLE, entries)

    def _block(self, kind: MarkerType, entries: list[int]) -> int:
        """Write a table behind its marker and return the sector where the table itself starts."""
        content = _padded(struct.pack(f"<{len(entries)}I", *entries))
        if self._style.compressed:
            self._write(marker(kind, len(content) // SECTOR))
        sector = self._position // SECTOR
        self._write(content)
        return sector

    def _end(self) -> None:
        tables = -(-self._size // (GRAIN * TABLE_ENTRIES))
        entries = [self._table_sectors.get(table, 0) for table in range(tables)]
        directory = self._block(MarkerType.GRAIN_DIRECTORY, entries)
        if self._style.footer:
            self._write(marker(MarkerType.FOOTER, 1) + self._header(directory))
        if self._style.compressed:
            self._write(marker(MarkerType.END_OF_STREAM, 0))
        if not self._style.footer:
            self._out.seek(0)
            self._out.write(self._header(directory))
            self._out.seek(0, os.SEEK_END)

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._position += len(data)


def _reader(raw: BinaryIO) -> ReadAt:
    def read(offset: int, length: int) -> bytes:
        raw.seek(offset)
        return raw.read(length).ljust(length, b"\0")  # a size beyond the file's end

    return read


def _data_grains(raw: BinaryIO, size: int) -> Iterator[int]:
    """Yield the grains that are not holes of the file, in order (lseek(2): SEEK_DATA)."""
    grain_index = 0
    while grain_index * GRAIN < size:
        try:
            start = os.lseek(raw.fileno(), grain_index * GRAIN, os.SEEK_DATA)
            end = min(os.lseek(raw.fileno(), start, os.SEEK_HOLE), size)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        stop = -(-end // GRAIN)
        yield from range(max(start // GRAIN, grain_index), stop)
        grain_index = max(stop, grain_index + 1)


def _sectors(size_bytes: int) -> int:
    return size_bytes // SECTOR


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")
