"""The guest that proves the bytes boots, and says so, if and only if every byte is where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import qemu
from tests.lab.guest import MIB, Guest, build_guest
from tests.lab.guest_boot import BANNER, SECTOR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.integration

SMALL_BOOT = MIB + 7 * SECTOR
SMALL_DATA = 64 * 1024 + SECTOR
LINE = rf"{BANNER} (OK|BAD) [0-9a-f]{{8}} [0-9a-f]{{8}}(?=\n)"


def boot(disks: Sequence[Path], bus: qemu.Bus = qemu.Bus.VIRTIO) -> str:
    """Return the line that the guest prints."""
    attached = tuple(qemu.Disk(disk, bus, boot_order=order) for order, disk in enumerate(disks, start=1))
    with qemu.Guest(qemu.Machine(attached, memory_mib=32)) as guest:
        return guest.wait_for(LINE).group()


@pytest.fixture
def small(tmp_path: Path) -> Guest:
    return build_guest(tmp_path, SMALL_BOOT, SMALL_DATA, seed=5)


def poke(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def sector(disk: Path, number: int) -> bytes:
    return disk.read_bytes()[number * SECTOR : (number + 1) * SECTOR]


@pytest.mark.parametrize("bus", list(qemu.Bus))
def test_the_guest_says_ok_on_every_bus(tmp_path: Path, bus: qemu.Bus) -> None:
    guest = build_guest(tmp_path, seed=1)
    assert boot([guest.boot_raw, guest.data_raw], bus) == guest.marker


@pytest.mark.parametrize("offset", [SECTOR - 3, SECTOR, 40_000, SMALL_BOOT - 1], ids=str)
def test_one_flipped_byte_on_the_boot_disk_makes_it_bad(small: Guest, offset: int) -> None:
    poke(small.boot_raw, offset, bytes([small.boot_raw.read_bytes()[offset] ^ 1]))
    assert boot([small.boot_raw, small.data_raw]).startswith(f"{BANNER} BAD ")


@pytest.mark.parametrize("offset", [0, 33_000, SMALL_DATA - 1], ids=str)
def test_one_flipped_byte_on_the_data_disk_makes_it_bad(small: Guest, offset: int) -> None:
    poke(small.data_raw, offset, bytes([small.data_raw.read_bytes()[offset] ^ 0x80]))
    assert boot([small.boot_raw, small.data_raw]).startswith(f"{BANNER} BAD ")


def test_two_swapped_sectors_make_it_bad(small: Guest) -> None:
    first, last = sector(small.data_raw, 1), sector(small.data_raw, 128)
    assert first != last
    poke(small.data_raw, SECTOR, last)
    poke(small.data_raw, 128 * SECTOR, first)
    assert boot([small.boot_raw, small.data_raw]).startswith(f"{BANNER} BAD ")


def test_a_missing_data_disk_makes_it_bad(small: Guest) -> None:
    assert boot([small.boot_raw]).startswith(f"{BANNER} BAD ")


def test_swapped_disks_do_not_boot_well(small: Guest) -> None:
    assert boot([small.boot_raw, small.boot_raw]).startswith(f"{BANNER} BAD ")


@pytest.mark.parametrize("sectors", [-1, 1], ids=["shorter", "longer"])
def test_a_disk_of_another_length_makes_it_bad(small: Guest, sectors: int) -> None:
    with small.data_raw.open("r+b") as disk:
        disk.truncate(SMALL_DATA + sectors * SECTOR)
    assert boot([small.boot_raw, small.data_raw]).startswith(f"{BANNER} BAD ")


def test_disks_of_a_storage_with_whole_units_have_to_be_that_long(tmp_path: Path) -> None:
    guest = build_guest(tmp_path, SMALL_BOOT, SMALL_DATA, unit=MIB)
    assert boot([guest.boot_raw, guest.data_raw]).startswith(f"{BANNER} BAD ")
    for path, size in ((guest.boot_raw, 2 * MIB), (guest.data_raw, MIB)):
        with path.open("r+b") as disk:
            disk.truncate(size)
    assert boot([guest.boot_raw, guest.data_raw]) == guest.marker
