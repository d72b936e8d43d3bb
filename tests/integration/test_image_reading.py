"""The image server against Go's own HTTP client, reading as Longhorn does."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from controller.imageserver import ImageServer
from controller.imageserver.sparse_gzip import ZEROS_BYTES, SparseGzip
from controller.scratch import Scratch
from tests.lab import toolchain
from tests.lab.reader import ReadingFailed, read
from tests.unit.fakes import eventually
from tests.unit.image_client import MEBIBYTE, UID, add_image, noise, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("go_reader")]

BLOCK = 65_535  # of gzip's stored blocks
LAYOUTS: dict[str, tuple[list[tuple[int, bytes]], int]] = {
    "one byte": ([(0, b"x")], 1),
    "no data": ([], 20 * MEBIBYTE + 513),
    "no hole": ([(0, noise(3 * MEBIBYTE + 77))], 3 * MEBIBYTE + 77),
    "data at both ends": ([(0, noise(5000)), (64 * MEBIBYTE - 3, b"end")], 64 * MEBIBYTE),
    "runs of odd lengths": (
        [(at * MEBIBYTE + at, noise(at * BLOCK + at - 3, at)) for at in range(1, 12, 2)],
        16 * MEBIBYTE,
    ),
    "zeros that are data": ([(0, bytes(MEBIBYTE))], 4 * MEBIBYTE),
    "every other block": ([(at, noise(4096, at)) for at in range(0, 2 * MEBIBYTE, 8192)], 2 * MEBIBYTE),
    **{
        f"holes of {length}": (
            [(at, noise(4096, at)) for at in range(0, 4 * (4096 + length), 4096 + length)],
            5 * (4096 + length),
        )
        for length in (4096, ZEROS_BYTES - 4096, ZEROS_BYTES, ZEROS_BYTES + 4096)
    },
}
THIN = {name for name in LAYOUTS if name not in {"one byte", "no hole"}}


@pytest.fixture(scope="session")
def go_reader() -> Path:
    """The reader, built before the first test (see `tests/conftest.py`)."""
    return toolchain.go_program("reader")


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch")


@pytest.fixture
def server(scratch: Scratch) -> Iterator[ImageServer]:
    with serving(scratch) as server:
        yield server


def publish(server: ImageServer) -> str:
    return f"http://127.0.0.1:{server.port}{server.publish(UID, 0)}"


@pytest.mark.parametrize("gzip", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_go_client_gets_the_same_bytes_by_either_way(
    server: ImageServer,
    scratch: Scratch,
    layout: str,
    gzip: bool,  # noqa: FBT001  # a parameter of the table above
) -> None:
    image = add_image(scratch, 0, *LAYOUTS[layout])
    reading = read(publish(server), gzip=gzip)
    assert reading.sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
    assert reading.bytes == reading.length == image.stat().st_size
    assert reading.inflated is (gzip and layout in THIN)


def test_a_thin_disk_arrives_thin(server: ImageServer, scratch: Scratch, tmp_path: Path) -> None:
    data, size = 2 * MEBIBYTE, 256 * MEBIBYTE
    image = add_image(scratch, 0, [(100 * MEBIBYTE, noise(data))], size)
    arrived = tmp_path / "arrived"
    reading = read(publish(server), output=arrived, sha256=False)
    assert data < reading.received < data * 1.01 + size / 250
    assert arrived.stat().st_size == size
    assert arrived.stat().st_blocks * 512 <= data + 64 * 1024
    with image.open("rb") as sent, arrived.open("rb") as got:
        while piece := sent.read(MEBIBYTE):
            assert got.read(MEBIBYTE) == piece


@pytest.mark.parametrize("gzip", [True, False])
def test_an_image_that_is_cut_short_is_an_error_to_its_reader(
    server: ImageServer,
    scratch: Scratch,
    tmp_path: Path,
    gzip: bool,  # noqa: FBT001  # either way
) -> None:
    image = add_image(scratch, 0, [(0, noise(32 * MEBIBYTE))], 64 * MEBIBYTE)
    url, arrived = publish(server), tmp_path / "arrived"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, url, gzip=gzip, bytes_per_second=4 * MEBIBYTE, output=arrived)
        eventually(lambda: arrived.exists() and arrived.stat().st_size > 0)
        os.truncate(image, 24 * MEBIBYTE)
        with pytest.raises(ReadingFailed, match=r"EOF|reset") as failure:
            reading.result()
    assert url.split("/")[3] not in str(failure.value)


def test_a_read_error_is_an_error_to_the_reader_too(
    server: ImageServer, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(scratch, 0, [(0, noise(4 * MEBIBYTE))], 64 * MEBIBYTE)
    read_piece, pieces = SparseGzip.read, iter(range(100))

    def failing(stream: SparseGzip) -> bytes | bytearray:
        if next(pieces) == 3:
            raise OSError(5, "Input/output error")
        return read_piece(stream)

    monkeypatch.setattr(SparseGzip, "read", failing)
    with pytest.raises(ReadingFailed, match=r"EOF|reset"):
        read(publish(server))


def test_many_go_clients_read_at_once(server: ImageServer, scratch: Scratch) -> None:
    image = add_image(scratch, 0, [(at, noise(MEBIBYTE, at)) for at in (0, 9 * MEBIBYTE)], 32 * MEBIBYTE)
    url, expected = publish(server), hashlib.sha256(image.read_bytes()).hexdigest()
    with ThreadPoolExecutor(12) as pool:
        readings = list(pool.map(lambda number: read(url, gzip=number % 3 > 0), range(24)))
    assert {reading.sha256 for reading in readings} == {expected}
    assert [reading.inflated for reading in readings] == [number % 3 > 0 for number in range(24)]


def test_what_is_no_image_is_an_error_to_the_reader(server: ImageServer) -> None:
    with pytest.raises(ReadingFailed, match="expected status code 200, got 404"):
        read(f"http://127.0.0.1:{server.port}/nothing")
