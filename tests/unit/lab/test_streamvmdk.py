from __future__ import annotations

import io
import random
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.lab import streamvmdk
from tests.lab.streamvmdk import GRAIN, SECTOR, TABLE_ENTRIES, MarkerType, Style

if TYPE_CHECKING:
    from pathlib import Path

ODD_SIZE = 5 * GRAIN + 3 * SECTOR  # the last grain is not whole


def disk(size: int = ODD_SIZE) -> bytes:
    """Data, a hole, data that starts and ends inside grains, and data at the very end."""
    content = bytearray(size)
    noise = random.Random(7)  # noqa: S311  # reproducible on purpose
    content[: 2 * SECTOR] = noise.randbytes(2 * SECTOR)
    content[2 * GRAIN + 100 : 3 * GRAIN + 17] = noise.randbytes(GRAIN - 83)
    content[-SECTOR:] = noise.randbytes(SECTOR)
    return bytes(content)


def qemu_decoded(vmdk: Path) -> bytes:
    raw = vmdk.with_suffix(".raw")
    argv = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(vmdk), str(raw)]
    subprocess.run(argv, check=True, capture_output=True)
    return raw.read_bytes()


@pytest.mark.parametrize(
    "style",
    [
        Style(),
        Style(footer=False),
        Style(compressed=False),
        Style(zero_grains=True),
        Style(short_last_grain=True),
        Style(shuffle_seed=3),
        Style(unknown_markers=4),
        Style(level=0),
        Style(shuffle_seed=9, unknown_markers=2, zero_grains=True, footer=False),
    ],
    ids=str,
)
def test_qemu_reads_every_style_back_byte_for_byte(tmp_path: Path, style: Style) -> None:
    vmdk = tmp_path / "disk.vmdk"
    content = disk()
    streamvmdk.encode(content, vmdk, style=style)
    assert qemu_decoded(vmdk) == content


def test_a_disk_with_several_tables_is_read_back_from_a_sparse_file(tmp_path: Path) -> None:
    raw = tmp_path / "disk.img"
    size = 2 * TABLE_ENTRIES * GRAIN + 9 * SECTOR
    with raw.open("wb") as file:
        file.truncate(size)
        for place in (0, TABLE_ENTRIES * GRAIN - 5, size - 4):
            file.seek(place)
            file.write(b"here")
    vmdk = tmp_path / "disk.vmdk"
    encoded = streamvmdk.encode(raw, vmdk)
    assert encoded.grains == (0, TABLE_ENTRIES - 1, 2 * TABLE_ENTRIES)
    assert encoded.stream_bytes == vmdk.stat().st_size
    assert qemu_decoded(vmdk) == raw.read_bytes()


@pytest.mark.parametrize(
    "style", [Style(), Style(footer=False), Style(shuffle_seed=3, unknown_markers=5), Style(level=0)], ids=str
)
def test_a_stream_can_be_read_by_its_markers_alone(style: Style) -> None:
    out = io.BytesIO()
    encoded = streamvmdk.encode(disk(), out, style=style)
    stream = out.getvalue()
    got = bytearray(ODD_SIZE)
    order, blocks, place = [], [], GRAIN  # the overhead that the header tells
    while place < len(stream):
        value, size, kind = struct.unpack_from("<QII", stream, place)
        if size:
            data = zlib.decompress(stream[place + 12 : place + 12 + size])
            got[value * SECTOR : value * SECTOR + GRAIN] = data
            order.append(value * SECTOR // GRAIN)
            place += -(-(12 + size) // SECTOR) * SECTOR
        else:
            blocks.append(kind)
            place += (1 + value) * SECTOR
    assert (tuple(order), bytes(got[:ODD_SIZE])) == (encoded.grains, disk())
    footer = [MarkerType.FOOTER] if style.footer else []
    known = [kind for kind in blocks if kind in MarkerType.__members__.values()]
    expected = [MarkerType.GRAIN_TABLE, MarkerType.GRAIN_DIRECTORY, *footer, MarkerType.END_OF_STREAM]
    assert (known, len(blocks) - len(known)) == (expected, style.unknown_markers)


@pytest.mark.parametrize("size", [SECTOR, GRAIN, 3 * GRAIN])
def test_an_empty_disk_has_a_size_and_no_grains(tmp_path: Path, size: int) -> None:
    vmdk = tmp_path / "disk.vmdk"
    assert streamvmdk.encode(bytes(size), vmdk).grains == ()
    assert qemu_decoded(vmdk) == bytes(size)


def test_a_disk_without_any_sector_ends_after_its_empty_directory() -> None:
    out = io.BytesIO()
    streamvmdk.encode(b"", out)
    tail = out.getvalue()[-4 * SECTOR :]
    assert tail == (
        streamvmdk.marker(MarkerType.GRAIN_DIRECTORY, 0)
        + streamvmdk.marker(MarkerType.FOOTER, 1)
        + streamvmdk.header(0, GRAIN // SECTOR + 1)
        + streamvmdk.marker(MarkerType.END_OF_STREAM, 0)
    )


def test_with_a_footer_the_stream_is_written_without_seeking() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise AssertionError("a pipe cannot seek")

    out = Pipe()
    content = disk()
    streamvmdk.encode(lambda offset, length: content[offset : offset + length], out, size_bytes=len(content))
    expected = io.BytesIO()
    streamvmdk.encode(content, expected)
    assert out.getvalue() == expected.getvalue()


def test_a_shuffled_stream_holds_the_same_grains_in_another_order() -> None:
    content = disk()
    straight = streamvmdk.encode(content, io.BytesIO(), style=Style(zero_grains=True)).grains
    shuffled = streamvmdk.encode(content, io.BytesIO(), style=Style(zero_grains=True, shuffle_seed=3)).grains
    assert straight == tuple(range(6))
    assert shuffled != straight
    assert sorted(shuffled) == list(straight)


def test_a_size_that_is_no_whole_sectors_is_refused() -> None:
    with pytest.raises(ValueError, match="513 bytes"):
        streamvmdk.encode(bytes(513), io.BytesIO())
