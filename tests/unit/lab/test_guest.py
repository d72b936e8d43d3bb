from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.guest import MIB, build_guest, file_crc32
from tests.lab.guest_boot import BANNER, SECTOR

if TYPE_CHECKING:
    from pathlib import Path


def test_the_marker_names_the_sums_of_the_whole_disks(tmp_path: Path) -> None:
    guest = build_guest(tmp_path, MIB, SECTOR, seed=5)
    sums = f"{file_crc32(guest.boot_raw):08x} {file_crc32(guest.data_raw):08x}"
    assert guest.marker == f"{BANNER} OK {sums}"


def test_other_seeds_give_other_guests(tmp_path: Path) -> None:
    markers = set()
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        markers.add(build_guest(tmp_path / str(seed), MIB, SECTOR, seed).marker)
    assert len(markers) == 3


def test_the_disks_are_sparse(tmp_path: Path) -> None:
    guest = build_guest(tmp_path)
    assert 0 < guest.boot_raw.stat().st_blocks * SECTOR < guest.boot_size // 2
    assert guest.boot_raw.stat().st_size == guest.boot_size


@pytest.mark.parametrize("sizes", [(MIB - SECTOR, SECTOR), (MIB + 1, SECTOR), (MIB, 0)], ids=str)
def test_impossible_sizes_are_refused(tmp_path: Path, sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        build_guest(tmp_path, *sizes)
