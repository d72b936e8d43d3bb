from __future__ import annotations

import gzip
import io
import os
import zlib
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.imageserver import sparse_gzip
from controller.imageserver.sparse_gzip import PIECE_BYTES, ZEROS_BYTES, ImageCutShort, SparseGzip
from tests.unit.image_client import MEBIBYTE, noise, write_sparse

KIBIBYTE = 1024
BLOCK = 65_535
LAYOUTS: dict[str, tuple[list[tuple[int, bytes]], int]] = {
    "no byte": ([], 0),
    "one byte": ([(0, b"x")], 1),
    "one zero byte": ([], 1),
    "no data": ([], 5 * MEBIBYTE),
    "no data, an odd length": ([], 5 * MEBIBYTE + 513),
    "no hole": ([(0, noise(3 * MEBIBYTE + 77))], 3 * MEBIBYTE + 77),
    "data at both ends": ([(0, noise(5000)), (4 * MEBIBYTE - 3, b"end")], 4 * MEBIBYTE),
    "data in the middle": ([(MEBIBYTE + 1234, noise(200_001))], 3 * MEBIBYTE),
    "data at the last byte": ([(2 * MEBIBYTE, b"x")], 2 * MEBIBYTE + 1),
    "zeros that are data": ([(0, bytes(300_000))], MEBIBYTE),
    "every other block": (
        [(at, noise(4096, at)) for at in range(0, MEBIBYTE, 8192)],
        MEBIBYTE,
    ),
    **{
        f"a run of {length}": ([(MEBIBYTE, noise(length))], 3 * MEBIBYTE)
        for length in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1)
    },
    **{
        f"a hole of {length}": ([(0, noise(4096)), (4096 + length, noise(4096))], 8192 + length)
        for length in (4096, 8192, 60 * KIBIBYTE, ZEROS_BYTES - 4096, ZEROS_BYTES, ZEROS_BYTES + 4096)
    },
}


def stream_of(path: Path) -> list[bytes]:
    with closing(SparseGzip(path)) as stream:
        return [bytes(piece) for piece in iter(stream.read, b"")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_stream_inflates_to_the_file(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "image"
    write_sparse(path, *LAYOUTS[layout])
    stream = b"".join(stream_of(path))
    assert gzip.decompress(stream) == path.read_bytes()
    with gzip.open(io.BytesIO(stream)) as reader:  # in pieces, as a client reads
        assert b"".join(iter(lambda: reader.read(4096), b"")) == path.read_bytes()


RUN = st.tuples(
    st.booleans(),  # data or hole
    st.one_of(
        st.integers(1, 300_000),
        st.sampled_from([4096, BLOCK, 65_536, 2 * BLOCK, PIECE_BYTES, ZEROS_BYTES, ZEROS_BYTES + 4096]),
    ),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(RUN, max_size=12))
def test_any_layout_inflates_to_the_file(layout: list[tuple[bool, int]]) -> None:
    at, runs = 0, []
    for is_data, length in layout:
        if is_data:
            runs.append((at, noise(length, at)))
        at += length
    with TemporaryDirectory() as directory:
        path = Path(directory, "image")
        write_sparse(path, runs, at)
        assert gzip.decompress(b"".join(stream_of(path))) == path.read_bytes()


def test_holes_cost_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image"
    data = 2 * MEBIBYTE
    write_sparse(path, [(100 * MEBIBYTE, noise(data))], 1024 * MEBIBYTE)
    length = sum(len(piece) for piece in stream_of(path))
    assert data < length < data * 1.001 + 1024 * MEBIBYTE / 250


@pytest.mark.parametrize("count", [1, 2, 258, 259, 260, 516, 517, 518, 4096, 65_537, ZEROS_BYTES])
def test_zeros_inflate_to_so_many(count: int) -> None:
    inflater = zlib.decompressobj(31)
    assert inflater.decompress(sparse_gzip._zeros(count)) == bytes(count)
    assert inflater.eof
    assert inflater.unused_data == b""


def test_pieces_are_of_a_bounded_size_and_no_smaller_than_need_be(tmp_path: Path) -> None:
    path = tmp_path / "image"
    runs = [(at, noise(8192, at)) for at in range(0, 8 * MEBIBYTE, 16_384)]
    write_sparse(path, [*runs, (8 * MEBIBYTE, noise(4 * MEBIBYTE))], 2048 * MEBIBYTE)
    sizes = [len(piece) for piece in stream_of(path)]
    assert max(sizes) < 2 * PIECE_BYTES
    assert min(sizes[:-1]) > PIECE_BYTES * 3 / 4


@pytest.mark.parametrize("left", [0, 1, MEBIBYTE + 5, 3 * MEBIBYTE, 3 * MEBIBYTE + 4096, 4 * MEBIBYTE - 1])
@pytest.mark.parametrize("pieces", [0, 1])
def test_a_file_cut_short_is_told(tmp_path: Path, left: int, pieces: int) -> None:
    path = tmp_path / "image"
    write_sparse(path, [(0, noise(2 * MEBIBYTE)), (4 * MEBIBYTE - 8192, noise(8192))], 4 * MEBIBYTE)
    with closing(SparseGzip(path)) as stream:
        for _ in range(pieces):
            stream.read()
        os.truncate(path, left)
        with pytest.raises(ImageCutShort):
            list(iter(stream.read, b""))


def test_a_removed_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "image"
    write_sparse(path, [(MEBIBYTE, noise(MEBIBYTE))], 4 * MEBIBYTE)
    content = path.read_bytes()
    with closing(SparseGzip(path)) as stream:
        path.unlink()
        assert gzip.decompress(b"".join(iter(stream.read, b""))) == content


@pytest.mark.parametrize(("data", "thin"), [(0, True), (1, True), (8, True), (14, True), (16, False)])
def test_a_file_is_thin_when_it_has_holes_worth_the_trouble(tmp_path: Path, data: int, thin: bool) -> None:  # noqa: FBT001  # a parameter of the table above
    path = tmp_path / "image"
    write_sparse(path, [(0, noise(data * MEBIBYTE))], 16 * MEBIBYTE)
    with closing(SparseGzip(path)) as stream:
        assert stream.thin is thin
