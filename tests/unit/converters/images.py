"""Disks to convert, and the plainest possible ways to know what must come out."""

from __future__ import annotations

import functools
import hashlib
import io
import random
import struct
import subprocess
import threading
from typing import TYPE_CHECKING

import converters
from converters.raw import SparseRawFile
from tests.lab import streamvmdk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 65536
GRAIN = streamvmdk.GRAIN


def reference_digest(data: bytes) -> str:
    """Digest of contract, section 3, as it is defined there."""
    image = hashlib.sha256()
    for offset in range(0, len(data), BLOCK):
        block = data[offset : offset + BLOCK]
        if block.count(0) != len(block):
            image.update(struct.pack(">Q", offset) + hashlib.sha256(block).digest())
    image.update(struct.pack(">Q", len(data)))
    return f"sparse-sha256-64k:{image.hexdigest()}"


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # reproducible on purpose


@functools.cache
def mixed_disk(size: int, seed: int = 0, density: float = 0.4) -> bytes:
    """Make a disk of noise, text and holes, none of which ends where a grain does."""
    rng = chance(seed)
    disk = bytearray(size)
    offset = 0
    while offset < size:
        length = min(rng.choice((512, 4096, 30_000, BLOCK, 3 * BLOCK)), size - offset)
        if rng.random() < density:
            disk[offset : offset + length] = (
                rng.randbytes(length) if rng.random() < 0.5 else (b"text %d " % offset * length)[:length]
            )
        offset += length
    return bytes(disk)


def in_pieces(data: bytes, length: int) -> Iterator[bytes]:
    for at in range(0, len(data), length):
        yield data[at : at + length]


@functools.cache
def encode(disk: bytes, **style: object) -> bytes:
    out = io.BytesIO()
    streamvmdk.encode(disk, out, style=streamvmdk.Style(**style))  # type: ignore[arg-type]
    return out.getvalue()


def qemu_encode(disk: bytes, folder: Path, image_format: str, options: str = "") -> bytes:
    """Let qemu-img write the disk in another format."""
    raw, image = folder / "qemu.raw", folder / "qemu.image"
    raw.write_bytes(disk)
    command = ["qemu-img", "convert", "-f", "raw", "-O", image_format]
    subprocess.run([*command, *(["-o", options] if options else []), raw, image], check=True)
    return image.read_bytes()


def qemu_decode(image: bytes, folder: Path, image_format: str) -> bytes:
    """Let qemu-img read a disk."""
    source, raw = folder / "source.image", folder / "source.raw"
    source.write_bytes(image)
    subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", source, raw], check=True)
    return raw.read_bytes()


def decode(
    image_format: str, chunks: Iterable[bytes | memoryview], target: Path, size: int
) -> tuple[bytes, str, list[int]]:
    """Decode with the product; return the bytes, the digest and what was reported."""
    reports: list[int] = []
    with SparseRawFile(target, size) as sink:
        converters.decode(
            image_format,
            chunks,
            sink,
            expected_size=size,
            on_progress=reports.append,
            stop=threading.Event(),
        )
        digest = sink.finish()
    return target.read_bytes(), digest, reports
