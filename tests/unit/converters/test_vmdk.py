from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import converters
from converters.errors import Cancelled, CorruptImage, DiskFull
from converters.raw import SparseRawFile
from tests.lab.streamvmdk import GRAIN, GRAIN_SECTORS, SECTOR
from tests.unit.converters.images import (
    decode,
    encode,
    in_pieces,
    mixed_disk,
    qemu_decode,
    qemu_encode,
    reference_digest,
)
from tests.unit.converters.streams import QEMU_OPTIONS, SMALL, Stream, noise, raises_typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Not a multiple of the grain, and more than one grain table.
SIZE = 33 * 1024 * 1024 + 3 * SECTOR

DISKS = {
    "mixed": lambda: mixed_disk(SIZE, seed=1, density=0.1),
    "empty": lambda: bytes(SIZE),
    "full": lambda: mixed_disk(3 * 1024 * 1024, seed=2, density=1),
    "one sector": lambda: b"x" * SECTOR,
    "one grain": lambda: mixed_disk(GRAIN, seed=3, density=1),
    "only the last sector": lambda: bytes(SIZE - SECTOR) + b"z" * SECTOR,
    "exactly one table": lambda: bytes(512 * GRAIN - SECTOR) + b"z" * SECTOR,
}
STYLES: dict[str, dict[str, object]] = {
    "esxi": {},
    "directory told by the header": {"footer": False},
    "zero grains too": {"zero_grains": True},
    "short last grain": {"short_last_grain": True},
    "shuffled": {"shuffle_seed": 7},
    "unknown markers": {"unknown_markers": 5},
    "stored, not deflated": {"level": 0},
}


@pytest.mark.parametrize(
    ("disk", "style"), [*((disk, "esxi") for disk in DISKS), *(("mixed", style) for style in STYLES)]
)
def test_a_disk_comes_out_as_it_went_in(tmp_path: Path, disk: str, style: str) -> None:
    content = DISKS[disk]()
    image = encode(content, **STYLES[style])
    raw, digest, reports = decode("vmdk", in_pieces(image, 65536), tmp_path / "disk", len(content))
    assert raw == content
    assert digest == reference_digest(content)
    assert reports == sorted(reports)
    assert reports[-1] == len(content)


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("options", QEMU_OPTIONS)
def test_what_qemu_img_writes_comes_out_as_it_went_in(tmp_path: Path, disk: str, options: str) -> None:
    content = DISKS[disk]()
    image = qemu_encode(content, tmp_path, "vmdk", options)
    raw, digest, _ = decode("vmdk", in_pieces(image, 65536), tmp_path / "disk", len(content))
    assert raw == content
    assert digest == reference_digest(content)


@pytest.mark.parametrize("style", ["esxi", "shuffled", "zero grains too", "directory told by the header"])
def test_qemu_img_reads_the_same(tmp_path: Path, style: str) -> None:
    content = DISKS["mixed"]()
    image = encode(content, **STYLES[style])
    raw, _, _ = decode("vmdk", [image], tmp_path / "disk", len(content))
    assert raw == qemu_decode(image, tmp_path, "vmdk")


@pytest.mark.parametrize("chunk", [1, 11, 512, 1_000_003])
def test_chunks_may_have_any_size(tmp_path: Path, chunk: int) -> None:
    content = mixed_disk(SMALL, seed=chunk, density=0.8)
    for number, image in enumerate(
        (encode(content), qemu_encode(content, tmp_path, "vmdk", QEMU_OPTIONS[0]))
    ):
        raw, _, _ = decode("vmdk", in_pieces(image, chunk), tmp_path / str(number), SMALL)
        assert raw == content


def test_a_source_may_use_the_memory_of_its_chunks_again(tmp_path: Path) -> None:
    content = mixed_disk(SIZE, seed=1, density=0.1)
    memory = bytearray(100_000)

    def chunks() -> Iterator[memoryview]:
        for piece in in_pieces(encode(content), len(memory)):
            memory[: len(piece)] = piece
            yield memoryview(memory)[: len(piece)]
            memory[:] = b"?" * len(memory)

    assert decode("vmdk", chunks(), tmp_path / "disk", SIZE)[0] == content


@given(
    seed=st.integers(0, 2**32),
    sectors=st.integers(1, 700),
    density=st.floats(0, 1),
    style=st.fixed_dictionaries(
        {
            "footer": st.booleans(),
            "zero_grains": st.booleans(),
            "short_last_grain": st.booleans(),
            "shuffle_seed": st.none() | st.integers(0, 99),
            "unknown_markers": st.integers(0, 3),
            "level": st.sampled_from((0, 1, 9)),
        }
    ),
    chunk=st.integers(300, 200_000),
)
@settings(max_examples=100, deadline=None)
def test_any_stream_of_the_format_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sectors: int,
    density: float,
    style: dict[str, object],
    chunk: int,
) -> None:
    content = mixed_disk(sectors * SECTOR, seed, density)
    target = tmp_path_factory.mktemp("any") / "disk"
    raw, digest, _ = decode("vmdk", in_pieces(encode(content, **style), chunk), target, len(content))
    assert raw == content
    assert digest == reference_digest(content)


def test_a_terabyte_disk_with_little_data_is_little_work(tmp_path: Path) -> None:
    size = 3 * 2**40
    places = {0: b"a" * GRAIN, size - GRAIN: b"z" * GRAIN, size // 2: b"m" * GRAIN}
    stream = Stream(size)
    for offset, data in sorted(places.items()):
        stream.add_grain(offset // SECTOR, zlib.compress(data))
    with SparseRawFile(tmp_path / "disk", size) as sink:
        converters.decode(
            "vmdk",
            [stream.close()],
            sink,
            expected_size=size,
            on_progress=lambda _: None,
            stop=threading.Event(),
        )
        sink.finish()
    assert (tmp_path / "disk").stat().st_blocks * SECTOR <= 2 * len(places) * GRAIN
    with (tmp_path / "disk").open("rb") as file:
        for offset, data in places.items():
            file.seek(offset)
            assert file.read(GRAIN) == data


def test_the_stream_made_by_hand_is_a_good_one(tmp_path: Path) -> None:
    stream = Stream()
    stream.add_grain(GRAIN_SECTORS, zlib.compress(noise()))
    raw, _, _ = decode("vmdk", [stream.close()], tmp_path / "disk", SMALL)
    assert raw == bytes(GRAIN) + noise() + bytes(SMALL - 2 * GRAIN)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("grain_sectors", [8, 16, 128, 512, 4096])
def test_grains_may_have_any_size_and_need_not_be_compressed(
    tmp_path: Path,
    grain_sectors: int,
    compressed: bool,  # noqa: FBT001
) -> None:
    size = 5 * 1024 * 1024 + 3 * SECTOR
    content = mixed_disk(size, seed=grain_sectors, density=0.5)
    stream = Stream(size, grain_sectors=grain_sectors, compressed=compressed)
    step = grain_sectors * SECTOR
    for offset in range(0, size, step):
        grain = content[offset : offset + step].ljust(step, b"\0")
        if any(grain):
            stream.add_grain(offset // SECTOR, zlib.compress(grain, 1) if compressed else grain)
    raw, digest, _ = decode("vmdk", in_pieces(stream.close(), 100_000), tmp_path / "disk", size)
    assert raw == content
    assert digest == reference_digest(content)


def test_a_grain_that_is_not_compressed_must_be_whole(tmp_path: Path) -> None:
    for length in (1, GRAIN - 1, GRAIN + 1):
        stream = Stream(compressed=False)
        stream.add_grain(0, noise(1, 2 * GRAIN)[:length])
        error = raises_typed(stream.close(), tmp_path / str(length), SMALL)
        assert isinstance(error, CorruptImage)
        assert f"{length} bytes" in str(error)


def test_an_error_of_the_sink_ends_the_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = mixed_disk(SIZE, seed=1, density=0.9)
    written = []

    def full(_sink: SparseRawFile, offset: int, _buffers: object) -> None:
        written.append(offset)
        raise DiskFull("no room")

    monkeypatch.setattr(SparseRawFile, "pwritev", full)
    with pytest.raises(DiskFull):
        decode("vmdk", in_pieces(encode(content), 65536), tmp_path / "disk", SIZE)
    assert len(written) < 50


def test_an_error_of_the_stream_passes_through_and_leaves_no_thread(tmp_path: Path) -> None:
    image = encode(mixed_disk(SIZE, seed=1, density=0.5))

    def broken() -> object:
        yield image[: len(image) // 2]
        raise ConnectionResetError("gone")

    before = threading.active_count()
    with pytest.raises(ConnectionResetError):
        decode("vmdk", broken(), tmp_path / "disk", SIZE)  # type: ignore[arg-type]
    assert threading.active_count() == before


def test_decoding_ends_when_it_is_stopped(tmp_path: Path) -> None:
    image = encode(mixed_disk(SIZE, seed=1, density=0.5))
    stop = threading.Event()

    def chunks() -> object:
        for number, piece in enumerate(in_pieces(image, 4096)):
            if number == 100:
                stop.set()
            assert number <= 101, "read on after the stop"
            yield piece

    with SparseRawFile(tmp_path / "disk", SIZE) as sink, pytest.raises(Cancelled):
        converters.decode(
            "vmdk",
            chunks(),  # type: ignore[arg-type]
            sink,
            expected_size=SIZE,
            on_progress=lambda _: None,
            stop=stop,
        )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("inflate")]
