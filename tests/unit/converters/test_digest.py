from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from converters import digest
from converters.digest import sparse_sha256
from converters.errors import ScratchFailed
from tests.unit.converters.images import BLOCK, mixed_disk, reference_digest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1, 512, BLOCK - 512, BLOCK, BLOCK + 512, 9 * BLOCK + 1536])
def test_the_digest_is_that_of_the_contract(tmp_path: Path, size: int) -> None:
    disk = mixed_disk(size, seed=size)
    (tmp_path / "disk").write_bytes(disk)
    assert sparse_sha256(tmp_path / "disk") == reference_digest(disk)


def test_holes_and_written_zeros_are_the_same_image(tmp_path: Path) -> None:
    disk = bytes(5 * BLOCK) + b"x" * 700 + bytes(6 * BLOCK - 700) + b"end"
    (tmp_path / "written").write_bytes(disk)
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(len(disk))
        os.pwrite(file.fileno(), b"x" * 700, 5 * BLOCK)
        os.pwrite(file.fileno(), b"end", len(disk) - 3)
    assert (tmp_path / "holes").stat().st_blocks < (tmp_path / "written").stat().st_blocks
    assert sparse_sha256(tmp_path / "holes") == sparse_sha256(tmp_path / "written") == reference_digest(disk)


def test_a_block_with_several_extents_counts_once(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(4 * BLOCK)
        for offset in (4096, 20480, BLOCK + 40960, BLOCK + 61440):
            os.pwrite(file.fileno(), b"data", offset)
    disk = (tmp_path / "disk").read_bytes()
    assert sparse_sha256(tmp_path / "disk") == reference_digest(disk)


def test_size_and_place_are_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for number, disk in enumerate((bytes(BLOCK), bytes(2 * BLOCK), b"a" + bytes(BLOCK), bytes(BLOCK) + b"a")):
        (tmp_path / str(number)).write_bytes(disk)
        digests.add(sparse_sha256(tmp_path / str(number)))
    assert len(digests) == 4


def test_the_command_prints_a_line_per_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk").write_bytes(b"some data")
    assert digest.main([str(tmp_path / "disk")]) == 0
    assert capsys.readouterr().out == f"{reference_digest(b'some data')}  {tmp_path}/disk\n"


def test_the_command_tells_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk").write_bytes(b"some data")
    assert digest.main([str(tmp_path / "absent"), str(tmp_path / "disk")]) == 1
    out, err = capsys.readouterr()
    assert "absent" in err
    assert out.endswith("/disk\n")


def test_a_file_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ScratchFailed, match="absent"):
        sparse_sha256(tmp_path / "absent")


def test_a_block_device_has_a_digest_too(tmp_path: Path) -> None:
    """Needs a loop device; where there is none, a device that knows no holes cannot be had."""
    disk = mixed_disk(3 * BLOCK, seed=5, density=0.8)
    (tmp_path / "disk").write_bytes(disk)
    try:
        loop = subprocess.run(
            ["losetup", "--find", "--show", tmp_path / "disk"], check=True, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no loop devices here")
    try:
        assert sparse_sha256(loop) == reference_digest(disk)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
