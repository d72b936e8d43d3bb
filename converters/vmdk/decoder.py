"""The streaming decoder: one pass over a streamOptimized VMDK, from its header to its end-of-stream marker.

Source: VMware, "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents". Two families of
writers are understood. VMware's (vCenter, ESXi, ovftool) and VirtualBox's never seek: grain tables and the
directory follow the grains, a footer tells where. qemu-img and open-vmdk write tables and directory before
the grains; qemu-img writes no end-of-stream marker but pads with zeros, which read as one, or with nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.errors import CorruptImage, SizeMismatch, TruncatedImage, UnsupportedFormat
from converters.sink import SECTOR_BYTES, Progress, Sink
from converters.vmdk.descriptor import MAX_SECTORS, refuse_delta
from converters.vmdk.grains import GrainPool
from converters.vmdk.layout import (
    FLAG_COMPRESSED,
    FLAG_MARKERS,
    GD_AT_END,
    GRAIN_MARKER,
    MARKER_TYPE,
    TABLE_BYTES,
    MarkerType,
    SparseExtentHeader,
    parse_header,
)
from converters.vmdk.ledger import GrainLedger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converters.stream import ChunkReader

# Deflate never makes data longer than by 5 bytes per 16 KiB; twice the grain is generous to any writer.
_MAX_EXPANSION = 2


def decode_stream(header: SparseExtentHeader, reader: ChunkReader, sink: Sink, on_progress: Progress) -> None:
    """Decode what follows the header and verify it: on return every grain is in the sink.

    Args:
        header: The stream's first sector, parsed; `is_stream`.
        reader: The stream behind its first sector.
        sink: Receives the grains; its size is the virtual size that the source announced.
        on_progress: Told the end of the furthest grain.

    Raises:
        TruncatedImage: the stream ended too early.
        CorruptImage: structures contradict each other, the format or the data.
        SizeMismatch: the virtual size is another one than announced.
        UnsupportedFormat: the disk is a delta, or laid out as no known writer does it.
        ConversionError: whatever the sink raises.
    """
    if header.capacity * SECTOR_BYTES != sink.size_bytes:
        raise SizeMismatch(
            f"the VMDK is a disk of {header.capacity * SECTOR_BYTES} bytes, expected {sink.size_bytes}"
        )
    _Decoder(header, reader, sink, on_progress).run()


class _Decoder:
    def __init__(
        self, header: SparseExtentHeader, reader: ChunkReader, sink: Sink, on_progress: Progress
    ) -> None:
        self._header = header
        self._reader = reader
        self._sink = sink
        self._on_progress = on_progress
        self._ledger = GrainLedger(header)
        self._footer: SparseExtentHeader | None = None

    def run(self) -> None:
        self._read_overhead()
        with GrainPool(self._sink, self._header.grain_bytes, compressed=self._header.is_compressed) as pool:
            marked_end = self._read_grains(pool)
            pool.finish()
        self._verify(marked_end=marked_end)
        self._on_progress(self._sink.size_bytes)

    def _read_overhead(self) -> None:
        """Read what stands before the grains: descriptor and, in files written with seeks, the tables."""
        header = self._header
        self._read_descriptor(min(header.directory_offset, header.overhead))
        if header.directory_offset < header.overhead:
            self._skip_to(header.directory_offset, "grain directory")
            directory = self._read_directory(-(-header.table_count * 4 // SECTOR_BYTES))
            last = 0
            for sector in directory if _is_ascending(directory) else sorted(directory):
                if last < sector < header.overhead:
                    self._skip_to(sector, "grain table")
                    self._ledger.add_table(sector, self._reader.read(TABLE_BYTES))
                    last = sector
        self._skip_to(header.overhead, "first grain")

    def _read_descriptor(self, end: int) -> None:
        """Look whether the disk is whole; only a descriptor before sector `end` is looked at."""
        header = self._header
        sectors = min(header.descriptor_sectors, MAX_SECTORS)
        if 0 < header.descriptor_offset <= end - sectors:
            self._skip_to(header.descriptor_offset, "descriptor")
            refuse_delta(bytes(self._reader.read(sectors * SECTOR_BYTES)))

    def _skip_to(self, sector: int, what: str) -> None:
        distance = sector * SECTOR_BYTES - self._reader.position
        if distance < 0:
            raise UnsupportedFormat(f"the VMDK's {what} lies before what has to be read first")
        self._reader.skip(distance)

    def _read_grains(self, pool: GrainPool) -> bool:
        """Read grains and markers; return whether an end-of-stream marker ended them."""
        reader, ledger, header = self._reader, self._ledger, self._header
        grain_sectors, capacity = header.grain_sectors, header.capacity
        max_size = _MAX_EXPANSION * header.grain_bytes
        furthest = 0
        while not reader.at_end():
            sector = reader.position // SECTOR_BYTES
            value, size = GRAIN_MARKER.unpack(reader.read(GRAIN_MARKER.size))
            if not size:
                if self._read_metadata(value):
                    return True
                continue
            if self._footer is not None:
                raise CorruptImage(f"there is a grain behind the footer, at sector {sector} of the VMDK")
            if value >= capacity or value % grain_sectors:
                raise CorruptImage(
                    f"the grain at sector {sector} of the VMDK says it belongs to sector {value}: "
                    f"no grain of a disk of {capacity} sectors begins there"
                )
            if size > max_size:
                raise CorruptImage(f"the grain at sector {sector} of the VMDK says it has {size} bytes")
            data = reader.read(size)
            reader.skip(-(GRAIN_MARKER.size + size) % SECTOR_BYTES)
            ledger.add_grain(value // grain_sectors, sector)
            furthest = max(furthest, value + grain_sectors)
            if pool.put(value, data, reader.position):
                self._on_progress(min(furthest * SECTOR_BYTES, self._sink.size_bytes))
        return False

    def _read_metadata(self, sectors: int) -> bool:
        """Read a marker's type and what it announces; return whether it was the end of the stream."""
        reader = self._reader
        at = reader.position // SECTOR_BYTES
        (kind,) = MARKER_TYPE.unpack(reader.read(MARKER_TYPE.size))
        reader.skip(SECTOR_BYTES - GRAIN_MARKER.size - MARKER_TYPE.size)
        if self._footer is not None and kind != MarkerType.END_OF_STREAM:
            raise CorruptImage(f"there is a marker behind the footer, at sector {at} of the VMDK")
        match kind:
            case MarkerType.END_OF_STREAM:
                self._read_padding()
                return True
            case MarkerType.GRAIN_TABLE:
                if sectors * SECTOR_BYTES != TABLE_BYTES:
                    raise CorruptImage(f"the grain table at sector {at} of the VMDK has {sectors} sectors")
                self._ledger.add_table(at + 1, reader.read(TABLE_BYTES))
            case MarkerType.GRAIN_DIRECTORY:
                self._read_directory(sectors)
            case MarkerType.FOOTER:
                self._footer = self._read_footer(sectors)
            case _:  # of a kind that needs no answer, such as the progress marker (4) of VMware's writers
                reader.skip(sectors * SECTOR_BYTES)
        return False

    def _read_directory(self, sectors: int) -> Sequence[int]:
        sector = self._reader.position // SECTOR_BYTES
        needed = self._header.table_count * 4
        if sectors * SECTOR_BYTES < needed:
            raise CorruptImage(f"the grain directory at sector {sector} of the VMDK is too short")
        entries = self._ledger.add_directory(sector, self._reader.read(needed))
        self._reader.skip(sectors * SECTOR_BYTES - needed)
        return entries

    def _read_footer(self, sectors: int) -> SparseExtentHeader:
        if sectors != 1:
            raise CorruptImage(f"the footer of the VMDK has {sectors} sectors")
        header, footer = self._header, parse_header(self._reader.read(SECTOR_BYTES))
        kind = FLAG_COMPRESSED | FLAG_MARKERS
        if (footer.capacity, footer.grain_sectors, footer.flags & kind) != (
            header.capacity,
            header.grain_sectors,
            header.flags & kind,
        ):
            raise CorruptImage("the footer of the VMDK contradicts its header")
        return footer

    def _read_padding(self) -> None:
        """Read what follows the end of the stream: nothing, or sectors of zeros."""
        for piece in self._reader.rest():
            if any(piece):
                raise CorruptImage("there is data behind the end of the VMDK's stream")
        if self._reader.position % SECTOR_BYTES:
            raise TruncatedImage(f"the stream ended after {self._reader.position} bytes, inside a sector")

    def _verify(self, *, marked_end: bool) -> None:
        """Compare grains with tables, and tell a lie from a stream that was cut."""
        directory_sector = (self._footer or self._header).directory_offset
        unmarked_ends = self._header.directory_offset != GD_AT_END and self._footer is None
        if not marked_end and not unmarked_ends:
            raise TruncatedImage("the stream ended without the VMDK's end-of-stream marker")
        if directory_sector == GD_AT_END:
            raise CorruptImage("the VMDK has no footer that says where its grain directory is")
        disagreement = self._ledger.disagreement(directory_sector)
        if disagreement:
            raise (CorruptImage if marked_end else TruncatedImage)(f"the VMDK is incomplete: {disagreement}")


def _is_ascending(entries: Sequence[int]) -> bool:
    """Tell whether those that are not 0 ascend, as writers have them: sorting them would take a copy."""
    last = 0
    for entry in entries:
        if entry:
            if entry <= last:
                return False
            last = entry
    return True
