from __future__ import annotations

import contextlib
import random
import struct
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest

import converters
from converters.errors import ConversionError, CorruptImage
from converters.raw import SparseRawFile
from converters.vmdk.layout import MAX_TABLES, TABLE_ENTRIES, parse_header
from converters.vmdk.ledger import MAX_COPIES, GrainLedger
from tests.lab import streamvmdk
from tests.unit.converters.images import chance, decode, in_pieces, mixed_disk, qemu_encode
from tests.unit.converters.streams import Stream

if TYPE_CHECKING:
    from pathlib import Path

TABLES = 2000
TABLE_SPAN = TABLE_ENTRIES * streamvmdk.GRAIN
MIB = 1024 * 1024


def ledger_of(tables: int) -> GrainLedger:
    return GrainLedger(parse_header(streamvmdk.header(tables * TABLE_SPAN, streamvmdk.DIRECTORY_AT_END)))


def table(sector: int) -> bytes:
    """Return a table whose first grain stands at a sector of the stream."""
    return struct.pack("<I", sector).ljust(TABLE_ENTRIES * 4, b"\0")


@pytest.mark.parametrize("order", ["forwards", "backwards", "at random"])
def test_tables_are_compared_whatever_the_order_of_grains_and_directory(order: str) -> None:
    ledger = ledger_of(TABLES)
    indices = list(range(TABLES))
    if order == "backwards":
        indices.reverse()
    elif order == "at random":
        random.Random(1).shuffle(indices)  # noqa: S311  # the same at every run
    directory = [0] * TABLES
    for place, index in enumerate(indices):
        ledger.add_grain(index * TABLE_ENTRIES, 1000 + index)
        ledger.add_table(10**6 + place, table(1000 + index))
        directory[index] = 10**6 + place
    ledger.add_directory(9, struct.pack(f"<{TABLES}I", *directory))
    assert ledger.disagreement(9) is None

    directory[7], directory[8] = directory[8], directory[7]
    ledger.add_directory(10, struct.pack(f"<{TABLES}I", *directory))
    assert ledger.disagreement(10) == "grain table 7 does not list the grains that came"


def test_a_table_that_nobody_refers_to_is_no_table_of_the_disk() -> None:
    ledger = ledger_of(2)
    ledger.add_grain(0, 1000)
    ledger.add_table(5, table(1000))
    for at, sector in ((1, 4), (2, 6)):
        ledger.add_directory(at, struct.pack("<2I", sector, 0))
        assert ledger.disagreement(at) == "grain table 0 does not list the grains that came"


def test_the_account_of_the_largest_disks_takes_little_memory() -> None:
    """Of a full disk of 64 TiB, the tables twice: under 100 MiB. Four such disks are read at once."""
    data = table(1000)
    ledger = ledger_of(TABLES)
    tracemalloc.start()
    try:
        for index in range(TABLES):
            ledger.add_grain(index * TABLE_ENTRIES, 1000)
            for copy in range(MAX_COPIES):
                ledger.add_table(10**6 + MAX_COPIES * index + copy, data)
        ledger.add_directory(9, bytes(4 * TABLES))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / TABLES * MAX_TABLES < 110 * MIB


def test_there_are_no_more_tables_than_two_copies() -> None:
    ledger = ledger_of(3)
    for index in range(3 * MAX_COPIES):
        ledger.add_table(10 + index, table(1000))
    with pytest.raises(CorruptImage, match="more grain tables"):
        ledger.add_table(99, table(1000))


def hostile(entries: list[int]) -> tuple[bytes, int]:
    """Return an empty stream, and its size, with a large directory before the grains, as qemu-img has it."""
    size = len(entries) * TABLE_SPAN
    stream = Stream(size)
    image = bytearray(stream.header(2))
    struct.pack_into("<Q", image, 64, 2**40)  # the first grain: so all entries may be of tables before it
    image += bytes(streamvmdk.SECTOR) + struct.pack(f"<{len(entries)}I", *entries)
    image += bytes(-len(image) % streamvmdk.SECTOR)
    return bytes(image), size


@pytest.mark.parametrize("order", ["ascending", "any"])
def test_a_large_directory_is_not_multiplied_in_memory(tmp_path: Path, order: str) -> None:
    count = 100_000
    rng = chance(1)
    image, size = hostile([10**6 + n if order == "ascending" else rng.randrange(2**32) for n in range(count)])
    with SparseRawFile(tmp_path / "disk", size) as sink:
        tracemalloc.start()
        try:
            with contextlib.suppress(ConversionError):
                converters.decode(
                    "vmdk",
                    in_pieces(image, MIB),
                    sink,
                    expected_size=size,
                    on_progress=lambda _: None,
                    stop=threading.Event(),
                )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < (8 if order == "ascending" else 60) * count


def test_tables_may_stand_in_any_order_before_the_grains(tmp_path: Path) -> None:
    """Nobody writes that, but the format does not forbid it."""
    disk = mixed_disk(2 * TABLE_SPAN, density=0.001)
    image = bytearray(qemu_encode(disk, tmp_path, "vmdk", "subformat=streamOptimized"))
    header = parse_header(image[:512])
    at = header.directory_offset * streamvmdk.SECTOR
    first, second = struct.unpack_from("<2I", image, at)
    length = TABLE_ENTRIES * 4
    here, there = first * streamvmdk.SECTOR, second * streamvmdk.SECTOR
    image[here : here + length], image[there : there + length] = (
        image[there : there + length],
        image[here : here + length],
    )
    struct.pack_into("<2I", image, at, second, first)
    raw, _, _ = decode("vmdk", in_pieces(bytes(image), MIB), tmp_path / "disk", len(disk))
    assert raw == disk
