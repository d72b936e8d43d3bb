from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import (
    ConversionError,
    CorruptImage,
    SizeMismatch,
    TruncatedImage,
    UnsupportedFormat,
)
from tests.lab import streamvmdk
from tests.lab.streamvmdk import DIRECTORY_AT_END, GRAIN, GRAIN_SECTORS, SECTOR, MarkerType
from tests.unit.converters.images import decode, encode, in_pieces, mixed_disk, qemu_encode
from tests.unit.converters.streams import QEMU_OPTIONS, SMALL, Stream, noise, raises_typed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_stream_cut_anywhere_is_truncated(tmp_path: Path) -> None:
    content = mixed_disk(SMALL, seed=4, density=0.2)
    image = encode(content)
    near_boundaries = {at + off for at in range(0, len(image), SECTOR) for off in (-1, 0, 1, 12)}
    offsets = sorted(at for at in near_boundaries if 0 <= at < len(image))
    for offset in offsets:
        error = raises_typed(image[:offset], tmp_path / str(offset), SMALL, chunk=100_000)
        assert isinstance(error, TruncatedImage), (offset, error)
        assert error.retryable


def test_a_stream_of_qemu_img_cut_inside_its_grains_is_truncated(tmp_path: Path) -> None:
    content = mixed_disk(SMALL, seed=5, density=0.7)
    image = qemu_encode(content, tmp_path, "vmdk", QEMU_OPTIONS[0])
    end_of_grains = len(image.rstrip(b"\0"))
    for offset in [*range(0, end_of_grains, 997), end_of_grains - 1]:
        error = raises_typed(image[:offset], tmp_path / str(offset), SMALL, chunk=100_000)
        assert isinstance(error, TruncatedImage), (offset, error)


def test_padding_behind_the_end_may_be_missing_by_sectors_but_not_by_bytes(tmp_path: Path) -> None:
    content = mixed_disk(SMALL, seed=5, density=0.7)
    image = qemu_encode(content, tmp_path, "vmdk", QEMU_OPTIONS[0])
    last_grain_end = -(-len(image.rstrip(b"\0")) // SECTOR) * SECTOR
    assert last_grain_end + SECTOR < len(image)
    for number, cut in enumerate((last_grain_end, last_grain_end + SECTOR)):
        assert decode("vmdk", [image[:cut]], tmp_path / str(number), SMALL)[0] == content
    assert isinstance(raises_typed(image[: last_grain_end + 700], tmp_path / "odd", SMALL), TruncatedImage)


def test_the_size_must_be_the_announced_one(tmp_path: Path) -> None:
    image = encode(mixed_disk(SMALL))
    for size in (SMALL - SECTOR, SMALL + SECTOR, 2 * SMALL):
        assert isinstance(raises_typed(image, tmp_path / str(size), size), SizeMismatch)


def lost_grain(stream: Stream) -> bytes:
    stream.add_grain(0, zlib.compress(noise(1)))
    stream.add_grain(GRAIN_SECTORS, zlib.compress(noise(2)))
    image = stream.close()
    start, end = stream.sectors[1], stream.tables[0] - 1
    unknown = streamvmdk.marker(99, end - start - 1)  # which makes the reader pass over the second grain
    return image[: start * SECTOR] + unknown + image[(start + 1) * SECTOR :]


def table_entry(place: int, value: int) -> Callable[[Stream], bytes]:
    def make(stream: Stream) -> bytes:
        stream.add_grain(0, zlib.compress(noise(1)))
        stream.add_tables()
        image = stream.out.getbuffer()
        struct.pack_into("<I", image, stream.tables[0] * SECTOR + 4 * place, value)
        del image
        stream.add_end(stream.add_directory())
        return stream.out.getvalue()

    return make


def directory_entry_missing(stream: Stream) -> bytes:
    stream.add_grain(0, zlib.compress(noise(1)))
    stream.add_tables()
    stream.tables.clear()
    stream.add_end(stream.add_directory())
    return stream.out.getvalue()


def footer_points_elsewhere(stream: Stream) -> bytes:
    stream.add_tables()
    stream.add_end(stream.add_directory() + 1)
    return stream.out.getvalue()


def footer_of_another_disk(stream: Stream) -> bytes:
    directory = stream.add_directory()
    stream.add_block(MarkerType.FOOTER, streamvmdk.header(stream.size + SECTOR, directory))
    stream.add_block(MarkerType.END_OF_STREAM, b"")
    return stream.out.getvalue()


def footer_without_place(stream: Stream) -> bytes:
    stream.add_directory()
    stream.add_end(DIRECTORY_AT_END)
    return stream.out.getvalue()


def no_footer(stream: Stream) -> bytes:
    stream.add_directory()
    stream.add_block(MarkerType.END_OF_STREAM, b"")
    return stream.out.getvalue()


def grain_behind_footer(stream: Stream) -> bytes:
    stream.add_block(MarkerType.FOOTER, streamvmdk.header(stream.size, stream.add_directory()))
    stream.add_grain(0, zlib.compress(noise()))
    return stream.out.getvalue()


def marker_behind_footer(stream: Stream) -> bytes:
    stream.add_block(MarkerType.FOOTER, streamvmdk.header(stream.size, stream.add_directory()))
    stream.add_directory()
    return stream.out.getvalue()


def data_behind_end(stream: Stream) -> bytes:
    return stream.close() + b"x" * SECTOR


def table_of_wrong_length(stream: Stream) -> bytes:
    stream.add_block(MarkerType.GRAIN_TABLE, bytes(8 * SECTOR))
    return stream.out.getvalue()


def directory_too_short(stream: Stream) -> bytes:
    stream.add_block(MarkerType.GRAIN_DIRECTORY, b"")
    return stream.out.getvalue()


def many_directories(stream: Stream) -> bytes:
    for _ in range(100):
        stream.add_directory()
    return stream.out.getvalue()


def many_tables(stream: Stream) -> bytes:
    for _ in range(100):
        stream.add_block(MarkerType.GRAIN_TABLE, struct.pack("<512I", *range(1, 513)))
    return stream.out.getvalue()


def footer_of_many_sectors(stream: Stream) -> bytes:
    stream.add_block(MarkerType.FOOTER, bytes(4 * SECTOR))
    return stream.out.getvalue()


LIES: dict[str, Callable[[Stream], bytes]] = {
    "a grain that the table lists is skipped": lost_grain,
    "the table lists a grain elsewhere": table_entry(0, 4711),
    "the table lists one grain more": table_entry(1, 200),
    "the table lists one grain less": table_entry(0, 0),
    "the directory leaves a table out": directory_entry_missing,
    "the footer points elsewhere": footer_points_elsewhere,
    "the footer is of another disk": footer_of_another_disk,
    "the footer does not say where": footer_without_place,
    "there is no footer": no_footer,
    "a grain behind the footer": grain_behind_footer,
    "a marker behind the footer": marker_behind_footer,
    "data behind the end": data_behind_end,
    "a table of wrong length": table_of_wrong_length,
    "a directory that is too short": directory_too_short,
    "directories without end": many_directories,
    "tables without end": many_tables,
    "a footer of many sectors": footer_of_many_sectors,
}


@pytest.mark.parametrize("allowed", [True, False])
def test_a_table_may_list_zeroed_grains_where_the_header_says_so(tmp_path: Path, allowed: bool) -> None:  # noqa: FBT001
    image = bytearray(table_entry(3, 1)(Stream()))
    if allowed:
        for header in (0, len(image) - 2 * SECTOR):
            (flags,) = struct.unpack_from("<I", image, header + 8)
            struct.pack_into("<I", image, header + 8, flags | 1 << 2)  # version 2 of the format
        raw, _, _ = decode("vmdk", [bytes(image)], tmp_path / "disk", SMALL)
        assert raw == noise(1) + bytes(SMALL - GRAIN)
    else:
        assert isinstance(raises_typed(bytes(image), tmp_path / "disk", SMALL), CorruptImage)


@pytest.mark.parametrize("lie", LIES)
def test_a_stream_that_contradicts_itself_is_corrupt(tmp_path: Path, lie: str) -> None:
    image = LIES[lie](Stream())
    error = raises_typed(image, tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage), error


def test_a_front_table_that_contradicts_the_grains_is_corrupt(tmp_path: Path) -> None:
    content = mixed_disk(SMALL, seed=5, density=0.9)
    image = bytearray(qemu_encode(content, tmp_path, "vmdk", QEMU_OPTIONS[0]))
    (directory,) = struct.unpack_from("<Q", image, 56)
    (table,) = struct.unpack_from("<I", image, directory * SECTOR)
    first, second = struct.unpack_from("<2I", image, table * SECTOR)
    assert first
    assert second
    struct.pack_into("<2I", image, table * SECTOR, second, first)
    error = raises_typed(bytes(image), tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage)
    assert "grain table 0" in str(error)


# struct offset in the header, its format, a value that no good file has, what must come of it
HEADERS = {
    "version": (4, "<I", 9, UnsupportedFormat),
    "capacity 0": (12, "<Q", 0, SizeMismatch),
    "capacity huge": (12, "<Q", 2**64 - 1, UnsupportedFormat),
    "grain 0": (20, "<Q", 0, UnsupportedFormat),
    "grain no power of two": (20, "<Q", 127, UnsupportedFormat),
    "grain huge": (20, "<Q", 2**63, UnsupportedFormat),
    "grain tiny": (20, "<Q", 1, UnsupportedFormat),
    "no entries": (44, "<I", 0, UnsupportedFormat),
    "other entries": (44, "<I", 2**31, UnsupportedFormat),
    "directory in the header": (56, "<Q", 0, UnsupportedFormat),
    "no overhead": (64, "<Q", 0, UnsupportedFormat),
    "endless overhead": (64, "<Q", 2**62, TruncatedImage),
    "text mode": (73, "<I", 0x0A0A0D20, CorruptImage),
    "other compression": (77, "<H", 7, UnsupportedFormat),
    "compressed and not marked": (8, "<I", 1 | 1 << 16, UnsupportedFormat),
    "an algorithm for what is not compressed": (8, "<I", 1 | 1 << 17, CorruptImage),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    offset, code, value, expected = HEADERS[case]
    image = bytearray(encode(mixed_disk(SMALL, density=0.5)))
    struct.pack_into(code, image, offset, value)
    assert type(raises_typed(bytes(image), tmp_path / "disk", SMALL)) is expected


def test_a_footer_is_for_streams_only(tmp_path: Path) -> None:
    image = bytearray(encode(mixed_disk(SMALL, density=0.5)))
    struct.pack_into("<I", image, 8, 1)
    struct.pack_into("<H", image, 77, 0)
    error = raises_typed(bytes(image), tmp_path / "disk", SMALL)
    assert isinstance(error, CorruptImage)
    assert "footer" in str(error)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damage_ends_in_a_typed_error_or_the_right_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = mixed_disk(SMALL, seed=11, density=0.5)
    image = bytearray(encode(content, shuffle_seed=data.draw(st.sampled_from((None, 1)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del image[data.draw(st.integers(0, len(image))) :]
    target = tmp_path_factory.mktemp("damage") / "disk"
    try:
        raw, _, _ = decode("vmdk", in_pieces(bytes(image), 5000), target, SMALL)
    except ConversionError:
        assert target.stat().st_size == SMALL
    else:
        assert raw == content


@pytest.mark.parametrize("writer", ["ours", "qemu-img"])
@pytest.mark.parametrize(
    ("says", "is_delta"),
    [
        ("parentCID=FFFFFFFF", ""),
        ("parentCID=00000000", ""),
        ("parentCID=7e57d15c", "a delta disk"),
        ("parentCID = 7e57d15c", "a delta disk"),
        ('parentCID=ffffffff\nparentFileNameHint="base.vmdk"', "a delta disk"),
    ],
)
def test_a_delta_disk_is_not_taken_for_a_whole_one(
    tmp_path: Path, writer: str, says: str, is_delta: str
) -> None:
    """What is not in a delta is in its parent, and not zero."""
    disk = mixed_disk(SMALL, density=0.5)
    image = encode(disk) if writer == "ours" else qemu_encode(disk, tmp_path, "vmdk", QEMU_OPTIONS[0])
    descriptor = image[SECTOR : 21 * SECTOR]
    changed = descriptor.rstrip(b"\0").replace(b"parentCID=ffffffff", says.encode())
    assert changed not in descriptor
    image = image[:SECTOR] + changed.ljust(len(descriptor), b"\0") + image[21 * SECTOR :]
    if is_delta:
        error = raises_typed(image, tmp_path / "disk", SMALL)
        assert isinstance(error, UnsupportedFormat)
        assert is_delta in str(error)
    else:
        assert decode("vmdk", in_pieces(image, 1000), tmp_path / "disk", SMALL)[0] == disk
