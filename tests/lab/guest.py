"""A virtual machine that knows what its disks must hold: it boots and says whether they do.

Two disks are made, one with a boot sector (`tests.lab.guest_boot`) and one with data, both sparse: data and
holes of odd sizes at odd places, up to the very last sector. The guest prints `marker` on its first serial
port when every byte of both is where it was, and a line with `BAD` when one is not, or a disk is missing,
shorter or longer. No byte is left out of that: the boot disk's own checksum stands inside the boot disk,
whose last four bytes are chosen so that it comes out.
"""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab import streamvmdk
from tests.lab.guest_boot import BANNER, SECTOR, boot_sector

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

MIB = 1 << 20
BOOT_SIZE = 16 * MIB + 5 * SECTOR  # ends inside a grain of the VMDK
DATA_SIZE = 8 * MIB
SMALLEST_BOOT_SIZE = MIB  # SeaBIOS does not boot from less than a cylinder
_POLYNOMIAL = 0xEDB8_8320  # CRC-32 of zlib, reflected
_CHUNK = 4 * MIB
_LONGEST_RUN = 256 * 1024
_LONGEST_GAP = 2 * MIB


@dataclass(frozen=True, slots=True)
class Guest:
    """The disks of one machine, each raw and as the streamOptimized VMDK of the same bytes.

    Attributes:
        marker: The exact line that a good boot prints, without its line end.
    """

    boot_raw: Path
    data_raw: Path
    boot_vmdk: Path
    data_vmdk: Path
    boot_size: int
    data_size: int
    marker: str


def build_guest(
    directory: Path,
    boot_size: int = BOOT_SIZE,
    data_size: int = DATA_SIZE,
    seed: int = 0,
    unit: int = SECTOR,
) -> Guest:
    """Make a guest's disks in a directory.

    Args:
        directory: Where; it must exist.
        boot_size: Bytes of the boot disk: whole sectors, at least `SMALLEST_BOOT_SIZE`.
        data_size: Bytes of the data disk: whole sectors.
        seed: Decides all content; other seeds give other sums.
        unit: Bytes that the machine's disks are whole multiples of, where a storage has such a rule. The
            machine has longer disks than the files then, and the guest does not read what follows.

    Raises:
        ValueError: a size is not possible.
    """
    if boot_size % SECTOR or data_size % SECTOR or boot_size < SMALLEST_BOOT_SIZE or data_size < SECTOR:
        raise ValueError(f"disks of {boot_size} and {data_size} bytes cannot be made")
    boot, data = directory / "boot.img", directory / "data.img"
    _fill(boot, boot_size, seed=2 * seed)
    _fill(data, data_size, seed=2 * seed + 1)
    data_crc = file_crc32(data)
    boot_crc = zlib.crc32(struct.pack("<QQQ", seed, boot_size, data_crc)) or 1  # 0 means "not read"
    with boot.open("r+b") as disk:
        sectors = boot_size // SECTOR, data_size // SECTOR
        lengths = _round_up(boot_size, unit) // SECTOR, _round_up(data_size, unit) // SECTOR
        disk.write(boot_sector(sectors, (boot_crc, data_crc), lengths))
        _force_crc32(disk, boot_size, boot_crc)
    for raw in (boot, data):
        streamvmdk.encode(raw, raw.with_suffix(".vmdk"))
    return Guest(
        boot_raw=boot,
        data_raw=data,
        boot_vmdk=boot.with_suffix(".vmdk"),
        data_vmdk=data.with_suffix(".vmdk"),
        boot_size=boot_size,
        data_size=data_size,
        marker=f"{BANNER} OK {boot_crc:08x} {data_crc:08x}",
    )


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def file_crc32(path: Path) -> int:
    """Return the CRC-32 of a file, as the guest computes it of a disk."""
    with path.open("rb") as file:
        return _crc32(file, path.stat().st_size)


def _crc32(file: BinaryIO, length: int) -> int:
    crc = 0
    file.seek(0)
    while length:
        chunk = file.read(min(length, _CHUNK))
        crc = zlib.crc32(chunk, crc)
        length -= len(chunk)
    return crc


def _fill(path: Path, size: int, seed: int) -> None:
    """Write runs of noise and of text at odd places of a sparse file, and noise into its last sector."""
    chance = random.Random(seed)  # noqa: S311  # reproducible on purpose
    with path.open("wb") as file:
        file.truncate(size)
        place = SECTOR
        while place < size:
            length = min(chance.randrange(1, _LONGEST_RUN), size - place)
            file.seek(place)
            if chance.random() < 0.5:
                file.write(chance.randbytes(length))
            else:
                file.write((f"{seed} at {place}\n".encode() * length)[:length])
            place += length + chance.randrange(_LONGEST_GAP)
        file.seek(size - SECTOR)
        file.write(chance.randbytes(SECTOR))


def _force_crc32(file: BinaryIO, size: int, wanted: int) -> None:
    """Choose the last four bytes of the file so that its CRC-32 is the wanted one.

    Four bytes w take the CRC register from s to U(s ^ w), where U shifts 32 zero bits through it; U is undone
    bit by bit: the polynomial's top bit tells which bits were shifted out.
    """
    before = _crc32(file, size - 4) ^ 0xFFFF_FFFF
    register = wanted ^ 0xFFFF_FFFF
    for _ in range(32):
        carry = register >> 31
        register = ((register ^ (_POLYNOMIAL if carry else 0)) << 1 | carry) & 0xFFFF_FFFF
    file.seek(size - 4)
    file.write(struct.pack("<I", before ^ register))
