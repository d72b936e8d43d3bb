"""Damaged and hostile streamOptimized VMDKs against the streaming decoder.

Case `n` of seed `s` is always the same: a good image of one of several writers, changed in one to six places,
in ways that know the format: fields of the header and of markers, sectors, deflate streams, ends.
"""

from __future__ import annotations

import functools
import io
import random
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import converters
from converters.digest import sparse_sha256
from converters.errors import ConversionError
from converters.raw import SparseRawFile
from tests.fuzz.report import MAX_SECONDS, Report, campaign
from tests.lab import streamvmdk
from tests.lab.streamvmdk import GRAIN, GRAIN_SECTORS, SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 5 * GRAIN + 3 * SECTOR
MORE_CHANCES = 2  # for a machine that was busy with something else
NUMBERS = (0, 1, 2, 3, 127, 128, 129, 511, 512, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
HEADER_FIELDS = (
    (4, 4),
    (8, 4),
    (12, 8),
    (20, 8),
    (28, 8),
    (36, 8),
    (44, 4),
    (48, 8),
    (56, 8),
    (64, 8),
    (77, 2),
)

STYLES = (
    streamvmdk.Style(),
    streamvmdk.Style(footer=False),
    streamvmdk.Style(shuffle_seed=3, unknown_markers=2),
    streamvmdk.Style(zero_grains=True, short_last_grain=True, level=0),
)


def run(cases: int, seed: int = 0, on_progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Run so many cases; tell `on_progress` now and then."""
    with tempfile.TemporaryDirectory(prefix="fuzz-vmdk-", dir=_memory_backed()) as folder:
        return campaign(
            cases, lambda number, report: _run_case(Path(folder), seed, number, report), on_progress
        )


def make_case(seed: int, number: int) -> tuple[bytes, bool]:
    """Return the image of a case, and whether it must be refused or give the disk that all images hold."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311  # reproducible on purpose
    image = bytearray(rng.choice(_images()))
    changes = [rng.choice(CHANGES) for _ in range(rng.randint(1, 6))]
    for change in changes:
        change(image, rng)
    (flags,) = struct.unpack_from("<I", image.ljust(12, b"\0"), 8)
    is_stream = bool(flags & streamvmdk.FLAG_MARKERS)  # else it is a good image of another kind
    return bytes(image), is_stream and not FOREIGN.intersection(changes)


def _run_case(folder: Path, seed: int, number: int, report: Report) -> None:
    image, own = make_case(seed, number)
    target = folder / "disk"
    seconds, outcome, defect = _decode(image, target, own=own)
    for _ in range(MORE_CHANCES):
        if seconds > MAX_SECONDS:
            again, outcome, defect = _decode(image, target, own=own)
            seconds = min(seconds, again)
    report.enter(f"case {number} of seed {seed}", seconds, outcome, defect)


def _decode(image: bytes, target: Path, *, own: bool) -> tuple[float, str, str]:
    """Decode one image; return the seconds, how it ended, and what is wrong with that, if anything."""
    chunk = 1 + len(image) // 3
    threads = threading.active_count()
    target.unlink(missing_ok=True)
    started = time.monotonic()
    digest, error = "", None
    try:
        with SparseRawFile(target, SIZE) as sink:
            converters.decode(
                "vmdk",
                (image[at : at + chunk] for at in range(0, len(image), chunk)),
                sink,
                expected_size=SIZE,
                on_progress=lambda _: None,
                stop=threading.Event(),
            )
            digest = sink.finish()
    except Exception as exc:  # noqa: BLE001  # what is not typed is what is looked for
        error = exc
    seconds = time.monotonic() - started
    defects = []
    if error is not None and not isinstance(error, ConversionError):
        defects.append(f"untyped {error!r}")
    if target.stat().st_size != SIZE or [path.name for path in target.parent.iterdir()] != [target.name]:
        defects.append("written outside of the disk")
    if threading.active_count() != threads:
        defects.append("threads are left")
    if error is None and digest != sparse_sha256(target):
        defects.append("the digest is another one")
    if error is None and own and target.read_bytes() != _content():
        defects.append("decoded to other bytes")
    return seconds, type(error).__name__ if error else "ok", "; ".join(defects)


def _memory_backed() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of its own is made there


@functools.cache
def _content() -> bytes:
    """Return the disk in all images: noise, text, zeros, and a short end."""
    rng = random.Random(1)  # noqa: S311  # reproducible on purpose
    parts = [rng.randbytes(2000) + b"some text " * 6400, bytes(GRAIN), b"a" * GRAIN, rng.randbytes(GRAIN)]
    return (
        b"".join(part[:GRAIN].ljust(GRAIN, b"\0") for part in parts).ljust(SIZE - SECTOR, b"\0")
        + b"e" * SECTOR
    )


@functools.cache
def _images() -> tuple[bytes, ...]:
    images = []
    for style in STYLES:
        out = io.BytesIO()
        streamvmdk.encode(_content(), out, style=style)
        images.append(out.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        raw, vmdk = Path(folder, "raw"), Path(folder, "vmdk")
        raw.write_bytes(_content())
        command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
        subprocess.run([*command, raw, vmdk], check=True)
        images.append(vmdk.read_bytes())
    return tuple(images)


def _sector(image: bytearray, rng: random.Random) -> int:
    """Choose a sector; mostly one that holds something."""
    for _ in range(20):
        at = rng.randrange(len(image) // SECTOR + 1) * SECTOR
        if any(image[at : at + 16]):
            return at
    return 0


def _number(rng: random.Random, width: int) -> bytes:
    value = rng.choice(NUMBERS) if rng.random() < 0.8 else rng.getrandbits(64)
    return value.to_bytes(8, "little")[:width]


def flip_bit(image: bytearray, rng: random.Random) -> None:
    if image:
        image[rng.randrange(len(image))] ^= 1 << rng.randrange(8)


def set_byte(image: bytearray, rng: random.Random) -> None:
    at = _sector(image, rng) + rng.randrange(SECTOR)
    image[at : at + 1] = rng.randbytes(1)


def set_header_field(image: bytearray, rng: random.Random) -> None:
    """Change the header, or what looks like a footer."""
    places = [at for at in range(0, len(image), SECTOR) if image[at : at + 4] == b"KDMV"] or [0]
    at, width = rng.choice(HEADER_FIELDS)
    start = rng.choice(places) + at
    image[start : start + width] = _number(rng, width)


def set_marker_field(image: bytearray, rng: random.Random) -> None:
    at, width = rng.choice(((0, 8), (8, 4), (12, 4)))
    start = _sector(image, rng) + at
    image[start : start + width] = _number(rng, width)


def move_grain(image: bytearray, rng: random.Random) -> None:
    start = _sector(image, rng)
    image[start : start + 8] = struct.pack("<Q", rng.randrange(8) * GRAIN_SECTORS)


def cut_end(image: bytearray, rng: random.Random) -> None:
    del image[rng.randrange(len(image) + 1) :]


def remove_sectors(image: bytearray, rng: random.Random) -> None:
    start = _sector(image, rng)
    del image[start : start + rng.choice((1, 2, 8)) * SECTOR]


def repeat_sectors(image: bytearray, rng: random.Random) -> None:
    start, length = _sector(image, rng), rng.choice((1, 2, 8)) * SECTOR
    image[start:start] = image[start : start + length]


def swap_sectors(image: bytearray, rng: random.Random) -> None:
    one, other = _sector(image, rng), _sector(image, rng)
    first, second = image[one : one + SECTOR], image[other : other + SECTOR]
    if len(first) == len(second):
        image[one : one + SECTOR], image[other : other + SECTOR] = second, first


def insert_marker(image: bytearray, rng: random.Random) -> None:
    start = _sector(image, rng)
    image[start:start] = streamvmdk.marker(rng.choice((0, 1, 2, 3, 4, 99)), rng.choice((0, 1, 2, 4, 2**40)))


def append(image: bytearray, rng: random.Random) -> None:
    image += rng.choice((bytes(SECTOR), bytes(7), rng.randbytes(SECTOR), bytes(image[-3 * SECTOR :])))


def put_grain(image: bytearray, rng: random.Random) -> None:
    """Put in a grain of other data, at times a bomb, at times one that belongs nowhere."""
    data = rng.choice((b"b" * GRAIN, bytes(40 * GRAIN), b"", rng.randbytes(GRAIN // 2)))
    grain = streamvmdk.grain(rng.choice((0, 1, 2, 5, 6, 2**40)) * GRAIN_SECTORS, data)
    start = _sector(image, rng)
    image[start : start + rng.choice((0, len(grain)))] = grain


def deflate_again(image: bytearray, rng: random.Random) -> None:
    """Put other data into a grain that is there, with the length it needs."""
    start = _sector(image, rng)
    _, size = struct.unpack_from("<QI", image.ljust(start + 12, b"\0"), start)
    deflated = zlib.compress(rng.randbytes(rng.choice((10, 1000))) * (GRAIN // 1000), rng.choice((0, 1, 9)))
    if size:
        image[start + 8 : start + 12 + len(deflated)] = struct.pack("<I", len(deflated)) + deflated


def splice(image: bytearray, rng: random.Random) -> None:
    """Go on with another image."""
    other = rng.choice(_images())
    at = rng.randrange(len(other) // SECTOR) * SECTOR
    image[at:] = other[at:]


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bit,
    set_byte,
    set_header_field,
    set_marker_field,
    move_grain,
    cut_end,
    remove_sectors,
    repeat_sectors,
    swap_sectors,
    insert_marker,
    append,
    put_grain,
    deflate_again,
    splice,
)
# Good data of other origin cannot be told from good data. Nor can, by Adler-32, a stored grain in which two
# parts with the same sum of bytes were exchanged.
FOREIGN = {put_grain, deflate_again, swap_sectors}
