from __future__ import annotations

import hashlib
import threading

import pytest

from converters.errors import ChecksumMismatch, CorruptImage, TruncatedImage, UnsupportedFormat
from converters.stream import ChunkReader, checked

DATA = bytes(range(256)) * 40


def reader(*chunks: bytes) -> ChunkReader:
    return ChunkReader(chunks, threading.Event())


def test_reads_cross_chunks_and_empty_ones() -> None:
    stream = reader(b"ab", b"", b"c", b"def", b"")
    assert stream.read(1) == b"a"
    assert stream.read(4) == b"bcde"
    assert stream.position == 5
    assert not stream.at_end()
    assert stream.read_up_to(10) == b"f"
    assert stream.at_end()


def test_reading_and_skipping_beyond_the_end_is_truncation() -> None:
    with pytest.raises(TruncatedImage, match="after 3 bytes"):
        reader(b"abc").read(4)
    with pytest.raises(TruncatedImage, match="after 3 bytes"):
        reader(b"abc").skip(4)


def test_the_rest_is_all_that_was_not_read() -> None:
    stream = reader(b"abc", b"def", b"g")
    stream.skip(1)
    assert [bytes(piece) for piece in stream.rest()] == [b"bc", b"def", b"g"]
    assert stream.position == 7


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_the_right_bytes_pass(algorithm: str) -> None:
    announced = hashlib.new(algorithm, DATA).hexdigest().upper()
    chunks: list[bytes | memoryview] = [DATA[:100], memoryview(DATA)[100:]]
    assert b"".join(checked(chunks, len(DATA), (algorithm, announced))) == DATA


def test_other_bytes_do_not_pass() -> None:
    announced = hashlib.sha256(DATA).hexdigest()
    with pytest.raises(ChecksumMismatch, match="sha256"):
        b"".join(checked([DATA[:-1] + b"x"], None, ("sha256", announced)))


def test_a_stream_shorter_than_announced_is_truncated() -> None:
    with pytest.raises(TruncatedImage):
        b"".join(checked([DATA], len(DATA) + 1, None))


def test_a_stream_longer_than_announced_is_refused_at_once() -> None:
    def chunks() -> object:
        yield DATA
        yield b"x"
        pytest.fail("read on")

    with pytest.raises(CorruptImage):
        b"".join(checked(chunks(), len(DATA), None))  # type: ignore[arg-type]


def test_an_unknown_checksum_is_no_checksum_that_passed() -> None:
    with pytest.raises(UnsupportedFormat, match="crc99"):
        b"".join(checked([DATA], None, ("crc99", "0")))
