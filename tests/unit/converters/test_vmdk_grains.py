from __future__ import annotations

import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from isal import isal_zlib

from converters.errors import CorruptImage
from converters.vmdk import grains
from converters.vmdk.grains import inflate
from tests.lab.streamvmdk import GRAIN, GRAIN_SECTORS, SECTOR
from tests.unit.converters.images import decode, mixed_disk
from tests.unit.converters.streams import SMALL, Stream, noise, raises_typed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "lba", [SMALL // SECTOR, SMALL // SECTOR + GRAIN_SECTORS, 2**63, 1, GRAIN_SECTORS - 1]
)
def test_a_grain_that_lies_nowhere_on_the_disk_is_refused(tmp_path: Path, lba: int) -> None:
    stream = Stream()
    stream.add_grain(lba, zlib.compress(noise()))
    error = raises_typed(stream.out.getvalue(), tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage)
    assert "no grain of a disk" in str(error)
    assert (tmp_path / "disk").stat().st_size == SMALL


def test_a_grain_that_comes_twice_is_refused(tmp_path: Path) -> None:
    stream = Stream()
    for seed in (1, 2):
        stream.add_grain(0, zlib.compress(noise(seed)))
    error = raises_typed(stream.close(), tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage)
    assert "twice" in str(error)


@pytest.fixture(params=["ISA-L", "zlib"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What inflates: where there is no wheel of ISA-L, zlib must do the same."""
    if request.param == "zlib":
        monkeypatch.setattr(grains, "_deflate", zlib)
    return str(request.param)


def test_the_engine_is_the_fast_one_where_it_is_installed(engine: str) -> None:
    assert grains._deflate is (zlib if engine == "zlib" else isal_zlib)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_grain_comes_out_as_it_went_in(tmp_path: Path, level: int) -> None:
    stream = Stream()
    stream.add_grain(GRAIN_SECTORS, zlib.compress(noise(level), level))
    raw, _, _ = decode("vmdk", [stream.close()], tmp_path / "disk", SMALL)
    assert raw[GRAIN : 2 * GRAIN] == noise(level)


BAD_GRAINS = {
    "not deflate": (b"rubbish" * 100, "damaged"),
    "bomb": (zlib.compress(bytes(100 * 1024 * 1024), 9), "more than"),
    "one byte too long": (zlib.compress(noise() + b"x"), "more than"),
    "one byte too short": (zlib.compress(noise()[:-1]), "instead of"),
    "cut": (zlib.compress(noise())[:-3], "too early"),
    "other adler": (zlib.compress(noise())[:-1] + b"\x55", "damaged"),
    "raw deflate (RFC 1951)": (zlib.compress(noise())[2:-4], "damaged"),
    "followed by something": (zlib.compress(noise()) + b"something", "followed"),
}


@pytest.mark.parametrize("case", BAD_GRAINS)
def test_a_grain_that_does_not_inflate_to_a_grain_is_refused(tmp_path: Path, case: str) -> None:
    deflated, word = BAD_GRAINS[case]
    stream = Stream()
    stream.add_grain(2 * GRAIN_SECTORS, deflated)
    error = raises_typed(stream.close(), tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage)
    assert not error.retryable
    assert word in str(error)
    assert f"the grain of sector {2 * GRAIN_SECTORS}" in str(error)


def test_a_bomb_is_never_inflated_beyond_a_grain() -> None:
    bomb = zlib.compress(bytes(100 * 1024 * 1024), 9)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptImage):
            inflate(bomb, GRAIN, GRAIN)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@pytest.mark.parametrize("length", [2**32 - 1, 2 * GRAIN + 1])
def test_a_grain_of_absurd_length_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    stream = Stream()
    stream.add_grain(0, b"x", length)
    error = raises_typed(stream.out.getvalue(), tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage)
    assert f"{length} bytes" in str(error)


def test_a_bit_flipped_in_any_grain_is_an_error(tmp_path: Path) -> None:
    content = mixed_disk(2 * GRAIN, seed=6, density=1)
    stream = Stream(2 * GRAIN)
    for index in range(2):
        stream.add_grain(index * GRAIN_SECTORS, zlib.compress(content[index * GRAIN :][:GRAIN]))
    grains_end = stream.out.tell()
    image = stream.close()
    for at in range(GRAIN, grains_end, 1511):
        if image[at]:  # not padding
            flipped = image[:at] + bytes([image[at] ^ 0x10]) + image[at + 1 :]
            raises_typed(flipped, tmp_path / str(at), 2 * GRAIN)
