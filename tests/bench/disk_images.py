"""Large disks to measure with: data as machines have it, in holes as machines have them, made in seconds."""

from __future__ import annotations

import os
import random
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tests.lab import streamvmdk
from tests.lab.streamvmdk import DIRECTORY_AT_END, GRAIN, GRAIN_SECTORS, SECTOR, TABLE_ENTRIES, MarkerType

if TYPE_CHECKING:
    from pathlib import Path

DIFFERENT_GRAINS = 512  # 32 MiB, more than the caches of the processor; each is compressed for itself
RUNS = (1, 3, 16, 100, 500, 2000)  # lengths of runs of adjacent grains


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as raw file, which is what must come out, and as streamOptimized VMDK."""

    raw: Path
    vmdk: Path
    size_bytes: int

    @property
    def allocated_bytes(self) -> int:
        """What the raw file takes."""
        return self.raw.stat().st_blocks * SECTOR


def make(folder: Path, name: str, size_bytes: int, data_bytes: int, *, noise: bool = False) -> Disk:
    """Write a disk of that size which holds so much data, as ESXi would export it (deflate, level 1).

    Args:
        folder: Where.
        name: Of its two files.
        size_bytes: Virtual size.
        data_bytes: What it holds.
        noise: Data that cannot be compressed: archives, media, encrypted volumes.
    """
    disk = Disk(folder / f"{name}.raw", folder / f"{name}.vmdk", size_bytes)
    grains = [(grain, zlib.compress(grain, 1)) for grain in (_noise() if noise else mixed_grains())]
    with disk.raw.open("wb") as raw, disk.vmdk.open("wb") as vmdk:
        raw.truncate(size_bytes)
        writer = _Writer(vmdk, size_bytes)
        for number, place in enumerate(_places(size_bytes // GRAIN, data_bytes // GRAIN)):
            grain, deflated = grains[number % len(grains)]
            os.pwrite(raw.fileno(), grain, place * GRAIN)
            writer.add(place, deflated)
        writer.close()
    return disk


def _noise() -> list[bytes]:
    rng = random.Random(3)  # noqa: S311  # reproducible on purpose
    return [rng.randbytes(GRAIN) for _ in range(DIFFERENT_GRAINS)]


def mixed_grains() -> list[bytes]:
    """Make grains of which a fifth is noise, two fifths are text and two fifths records of a binary file."""
    rng = random.Random(1)  # noqa: S311  # reproducible on purpose
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 11))) for _ in range(4000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law
    grains = []
    for number in range(DIFFERENT_GRAINS):
        if number % 5 == 0:
            grain = rng.randbytes(GRAIN)
        elif number % 5 < 3:
            grain = b" ".join(rng.choices(words, weights, k=GRAIN // 2))
        else:
            grain = b"".join(
                struct.pack("<QIHQ", 0x7F0000000000 + rng.randrange(1 << 20) * 16, rng.randrange(999), 7, 0)
                + rng.randbytes(rng.choice((0, 2, 6)))
                for _ in range(GRAIN // 22 + 1)
            )
        grains.append(grain[:GRAIN])
    return grains


def _places(grains: int, wanted: int) -> list[int]:
    """Choose the grains that hold data: runs of many lengths, strewn over the disk."""
    rng = random.Random(2)  # noqa: S311  # reproducible on purpose
    runs: list[int] = []
    while (left := wanted - sum(runs)) > 0:
        runs.append(min(left, rng.choice(RUNS)))
    places: list[int] = []
    for start, run in zip(sorted(rng.sample(range(grains - wanted), len(runs))), runs, strict=True):
        first = start + len(places)
        places.extend(range(first, first + run))
    return places


class _Writer:
    def __init__(self, out: BinaryIO, size_bytes: int) -> None:
        self._out = out
        self._size = size_bytes
        self._sectors: dict[int, int] = {}
        self._tables: dict[int, int] = {}
        self._table = -1
        start = streamvmdk.header(size_bytes, DIRECTORY_AT_END) + streamvmdk.descriptor(size_bytes)
        out.write(start.ljust(GRAIN, b"\0"))

    def add(self, place: int, deflated: bytes) -> None:
        if place // TABLE_ENTRIES != self._table:
            self._end_table()
            self._table = place // TABLE_ENTRIES
        self._sectors[place % TABLE_ENTRIES] = self._out.tell() // SECTOR
        self._out.write(_padded(struct.pack("<QI", place * GRAIN_SECTORS, len(deflated)) + deflated))

    def close(self) -> None:
        self._end_table()
        tables = -(-self._size // (GRAIN * TABLE_ENTRIES))
        directory = self._block(
            MarkerType.GRAIN_DIRECTORY, [self._tables.get(table, 0) for table in range(tables)]
        )
        self._out.write(streamvmdk.marker(MarkerType.FOOTER, 1) + streamvmdk.header(self._size, directory))
        self._out.write(streamvmdk.marker(MarkerType.END_OF_STREAM, 0))

    def _end_table(self) -> None:
        if self._sectors:
            entries = [self._sectors.get(place, 0) for place in range(TABLE_ENTRIES)]
            self._tables[self._table] = self._block(MarkerType.GRAIN_TABLE, entries)
            self._sectors.clear()

    def _block(self, kind: MarkerType, entries: list[int]) -> int:
        content = _padded(struct.pack(f"<{len(entries)}I", *entries))
        self._out.write(streamvmdk.marker(kind, len(content) // SECTOR))
        sector = self._out.tell() // SECTOR
        self._out.write(content)
        return sector


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")
