from __future__ import annotations

import errno
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import blocktable, raw
from converters.digest import sparse_sha256
from converters.errors import Cancelled, CorruptImage, DiskFull, ScratchFailed, SizeMismatch, TruncatedImage
from converters.raw import SparseRawFile, copy_raw
from tests.unit.converters.images import BLOCK, chance, decode, in_pieces, mixed_disk, reference_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converters.sink import Buffer

SIZE = 40 * BLOCK + 3 * 512


def pieces_of(disk: bytes, length: int) -> list[tuple[int, bytes]]:
    return [(at, disk[at : at + length]) for at in range(0, len(disk), length)]


def write_all(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> str:
    with SparseRawFile(path, size) as image:
        for offset, data in pieces:
            image.pwritev(offset, [data])
        return image.finish()


@pytest.mark.parametrize("length", [512, 4096, BLOCK, 3 * BLOCK, BLOCK + 512])
@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_bytes_and_digest_are_right_in_any_order_of_pieces(tmp_path: Path, length: int, order: str) -> None:
    disk = mixed_disk(SIZE, seed=length)
    pieces = pieces_of(disk, length)
    if order == "backward":
        pieces.reverse()
    elif order == "shuffled":
        chance(1).shuffle(pieces)
    digest = write_all(tmp_path / "disk", SIZE, pieces)
    assert (tmp_path / "disk").read_bytes() == disk
    assert digest == reference_digest(disk) == sparse_sha256(tmp_path / "disk")


def test_blocks_set_aside_and_pages_spilled_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "MAX_OPEN_BLOCKS", 2)
    monkeypatch.setattr(blocktable, "MAX_PAGES", 1)
    pages = 3 * blocktable.PAGE_BLOCKS * BLOCK
    disk = mixed_disk(30 * BLOCK, seed=9)
    rng = chance(2)
    # Some of the disk in each of three pages; every tenth piece never comes and stays zero.
    pieces = [
        (page * blocktable.PAGE_BLOCKS * BLOCK + offset, data)
        for page in range(3)
        for offset, data in pieces_of(disk[page * 10 * BLOCK : (page + 1) * 10 * BLOCK], 2048)
        if rng.random() < 0.9
    ]
    rng.shuffle(pieces)
    digest = write_all(tmp_path / "disk", pages, pieces)
    with (tmp_path / "disk").open("rb") as file:
        for offset, data in pieces:
            assert os.pread(file.fileno(), len(data), offset) == data
    assert digest == sparse_sha256(tmp_path / "disk")


def test_a_range_set_aside_is_still_known_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "MAX_OPEN_BLOCKS", 1)
    with SparseRawFile(tmp_path / "disk", 4 * BLOCK) as image:
        for block in range(3):
            image.pwritev(block * BLOCK, [b"a" * 512])
        with pytest.raises(CorruptImage, match="twice"):
            image.pwritev(0, [b"b" * 512])


def test_zeros_that_left_memory_are_still_known_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocktable, "MAX_PAGES", 1)
    page = blocktable.PAGE_BLOCKS * BLOCK
    with SparseRawFile(tmp_path / "disk", 3 * page) as image:
        for at in range(0, 2 * page, 1024 * 1024):
            image.pwritev(at, [bytes(1024 * 1024)])
        image.pwritev(2 * page, [bytes(BLOCK)])
        assert image._table._file is None, "pages of zeros take no room"
        with pytest.raises(CorruptImage, match="twice"):
            image.pwritev(5 * BLOCK, [bytes(BLOCK)])


def test_a_finished_image_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = os.pwritev

    def pwritev(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        events.append("write")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "fsync", lambda _: events.append("sync"))
    write_all(tmp_path / "disk", SIZE, [(0, b"x" * BLOCK), (BLOCK, b"x" * 512)])
    assert events == ["write", "write", "sync"]


def test_many_threads_may_write(tmp_path: Path) -> None:
    disk = mixed_disk(64 * BLOCK, seed=3)
    pieces = pieces_of(disk[: 4 * BLOCK], 512)
    pieces += [(4 * BLOCK + at, data) for at, data in pieces_of(disk[4 * BLOCK :], BLOCK)]
    chance(4).shuffle(pieces)
    with SparseRawFile(tmp_path / "disk", len(disk)) as image, ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(image.pwritev, offset, [data]) for offset, data in pieces]:
            future.result()
        assert image.finish() == reference_digest(disk)
    assert (tmp_path / "disk").read_bytes() == disk


def test_of_two_threads_that_write_the_same_range_one_is_refused(tmp_path: Path) -> None:
    with SparseRawFile(tmp_path / "disk", 64 * BLOCK) as image, ThreadPoolExecutor(8) as threads:
        futures = [
            threads.submit(image.pwritev, n // 2 * BLOCK, [bytes([65 + n]) * BLOCK]) for n in range(100)
        ]
        refused = [isinstance(future.exception(), CorruptImage) for future in futures]
    assert [sum(refused[n : n + 2]) for n in range(0, 100, 2)] == [1] * 50


def test_zero_blocks_are_not_written(tmp_path: Path) -> None:
    digest = write_all(tmp_path / "disk", 64 * BLOCK, pieces_of(bytes(64 * BLOCK), 4 * BLOCK))
    assert (tmp_path / "disk").stat().st_blocks == 0
    assert (tmp_path / "disk").stat().st_size == 64 * BLOCK
    assert digest == reference_digest(bytes(64 * BLOCK))


def test_zero_blocks_made_of_pieces_are_not_written(tmp_path: Path) -> None:
    write_all(tmp_path / "disk", 4 * BLOCK, pieces_of(bytes(4 * BLOCK), 512))
    assert (tmp_path / "disk").stat().st_blocks == 0


def test_what_never_comes_reads_as_zeros(tmp_path: Path) -> None:
    digest = write_all(tmp_path / "disk", 3 * BLOCK, [(BLOCK + 512, b"x" * 512)])
    disk = bytes(BLOCK + 512) + b"x" * 512 + bytes(2 * BLOCK - 1024)
    assert (tmp_path / "disk").read_bytes() == disk
    assert digest == reference_digest(disk)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(SIZE, 512), (SIZE - 512, 1024), (-512, 512), (2**62, 512), (0, SIZE + 512), (100, 512), (0, 700)],
)
def test_a_range_that_is_no_part_of_the_disk_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    with SparseRawFile(tmp_path / "disk", SIZE) as image, pytest.raises(CorruptImage, match=r"outside|whole"):
        image.pwritev(offset, [b"x" * length])
    assert (tmp_path / "disk").stat().st_size == SIZE
    assert (tmp_path / "disk").stat().st_blocks == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, BLOCK), (0, BLOCK)),
        ((0, BLOCK), (4096, 512)),
        ((4096, 512), (0, BLOCK)),
        ((4096, 1024), (4608, 512)),
        ((BLOCK - 512, 1024), (BLOCK, 512)),
        ((0, 4 * BLOCK), (3 * BLOCK, BLOCK)),
        ((40 * BLOCK, 1536), (40 * BLOCK + 1024, 512)),
    ],
)
@pytest.mark.parametrize("fill", [b"x", b"\0"])
def test_no_range_is_written_twice(
    tmp_path: Path, first: tuple[int, int], second: tuple[int, int], fill: bytes
) -> None:
    with SparseRawFile(tmp_path / "disk", SIZE) as image:
        image.pwritev(first[0], [fill * first[1]])
        with pytest.raises(CorruptImage, match="twice"):
            image.pwritev(second[0], [fill * second[1]])
        with pytest.raises(ScratchFailed):
            image.finish()


def test_an_existing_file_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"precious")
    with pytest.raises(ScratchFailed):
        SparseRawFile(tmp_path / "disk", SIZE)
    assert (tmp_path / "disk").read_bytes() == b"precious"


def test_what_another_program_wrote_must_have_the_size_of_the_disk(tmp_path: Path) -> None:
    with SparseRawFile(tmp_path / "disk", SIZE) as image:
        os.truncate(tmp_path / "disk", SIZE + 512)
        with pytest.raises(SizeMismatch, match=str(SIZE + 512)):
            image.adopt(threading.Event())


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    SparseRawFile(tmp_path / "disk", SIZE).close()
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o600


def test_no_room_is_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with SparseRawFile(tmp_path / "disk", SIZE) as image:
        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(DiskFull, match="disk cannot be written: No space left"):
            image.pwritev(0, [b"x" * BLOCK])
        monkeypatch.undo()
        with pytest.raises(ScratchFailed):
            image.finish()


def test_a_write_that_the_kernel_does_in_part_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev

    def in_part(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return real(fd, [b"".join(buffers)[:100_000]], offset)

    monkeypatch.setattr(os, "pwritev", in_part)
    disk = mixed_disk(3 * BLOCK, seed=1, density=1)
    assert write_all(tmp_path / "disk", 3 * BLOCK, [(0, disk)]) == reference_digest(disk)
    assert (tmp_path / "disk").read_bytes() == disk


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_cutting_of_a_disk_gives_the_same_digest(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sectors = data.draw(st.integers(1, 400))
    disk = mixed_disk(sectors * 512, seed=data.draw(st.integers(0, 1000)))
    cuts = sorted({0, sectors, *data.draw(st.lists(st.integers(0, sectors), max_size=20))})
    pieces = [(a * 512, disk[a * 512 : b * 512]) for a, b in itertools.pairwise(cuts)]
    path = tmp_path_factory.mktemp("cut") / "disk"
    assert write_all(path, len(disk), data.draw(st.permutations(pieces))) == reference_digest(disk)
    assert path.read_bytes() == disk


@pytest.mark.parametrize("length", [1, 511, 4096, BLOCK + 1, 10**7])
def test_a_raw_stream_is_copied_whatever_its_chunks(tmp_path: Path, length: int) -> None:
    disk = mixed_disk(2 * BLOCK + 512 if length == 1 else SIZE, seed=6)
    copied, digest, reports = decode("raw", in_pieces(disk, length), tmp_path / "disk", len(disk))
    assert copied == disk
    assert digest == reference_digest(disk)
    assert reports == sorted(reports)
    assert reports[-1] == len(disk)


def test_a_raw_stream_of_odd_size_keeps_its_size(tmp_path: Path) -> None:
    disk = mixed_disk(BLOCK + 513, seed=8, density=1)
    copied, digest, _ = decode("raw", [disk], tmp_path / "disk", len(disk))
    assert copied == disk
    assert digest == reference_digest(disk)


def test_a_view_is_not_used_after_the_next_step(tmp_path: Path) -> None:
    disk = mixed_disk(SIZE, seed=7)

    def reused() -> object:
        buffer = bytearray(5000)
        for at in range(0, len(disk), 5000):
            part = disk[at : at + 5000]
            buffer[: len(part)] = part
            yield memoryview(buffer)[: len(part)]

    copied, _, _ = decode("raw", reused(), tmp_path / "disk", len(disk))  # type: ignore[arg-type]
    assert copied == disk


@pytest.mark.parametrize("missing", [1, 512, SIZE])
def test_a_raw_stream_that_is_too_short_is_truncated(tmp_path: Path, missing: int) -> None:
    with pytest.raises(TruncatedImage):
        decode("raw", in_pieces(bytes(SIZE - missing), 4096), tmp_path / "disk", SIZE)


def test_a_raw_stream_that_is_too_long_has_another_size(tmp_path: Path) -> None:
    with pytest.raises(SizeMismatch):
        decode("raw", in_pieces(bytes(SIZE + 1), 4096), tmp_path / "disk", SIZE)


def test_a_copy_ends_when_it_is_stopped(tmp_path: Path) -> None:
    stop = threading.Event()

    def endless() -> object:
        while True:
            yield bytes(512)
            stop.set()

    with SparseRawFile(tmp_path / "disk", 2**40) as sink, pytest.raises(Cancelled):
        copy_raw(endless(), sink, expected_size=2**40, on_progress=lambda _: None, stop=stop)  # type: ignore[arg-type]
