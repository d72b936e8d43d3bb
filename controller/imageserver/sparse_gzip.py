"""A sparse file as a gzip stream that is little longer than its data and costs next to no work.

The stream is a sequence of members (RFC 1952, section 2.2): a piece of data is a member of stored blocks
(RFC 1951, section 3.2.4), not compressed; a hole is members that are made once and inflate to zeros. Every
inflater reads it, and what comes out is the file, byte for byte.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import threading
import zlib
from typing import TYPE_CHECKING

from isal import isal_zlib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# One hand-over between threads and one write to the socket each. A reader that does not read holds about
# two of them in memory.
PIECE_BYTES = 512 * 1024
ZEROS_BYTES = 1024 * 1024  # of the member that the greater part of a hole is made of
# Below this share of holes, inflating costs a reader as much as the link saves it.
THIN_SHARE = 1 / 16

_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # deflate; no name, no time; of an unknown system
_TRAILER = struct.Struct("<II")  # CRC-32 and number of the bytes
_BLOCK = struct.Struct("<BHH")  # the last one or not; length; its complement
_BLOCK_BYTES = 65_535  # of the longest stored block
_DATA_BYTES = PIECE_BYTES // _BLOCK_BYTES * _BLOCK_BYTES  # of one member


class ImageCutShort(Exception):
    """The file has become shorter than it was when it was opened; what is missing cannot be made up."""


class SparseGzip:
    """An open file, read as a gzip stream. To be used by one reader, from any thread.

    Attributes:
        path: Of the file.
        size: Of the file, in bytes, when it was opened.
        thin: Whether its holes are worth the trouble.

    Raises:
        OSError: the file cannot be opened; from `read` also: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()  # a file is not closed under the thread that reads it
        status = os.fstat(self._file.fileno())
        self.size = status.st_size
        self.thin = status.st_blocks * 512 < self.size * (1 - THIN_SHARE)
        self._pieces = _joined(_members(self._file.fileno(), self.size))

    def read(self) -> bytes | bytearray:
        """Return the next piece of the stream, about `PIECE_BYTES` long; nothing when it has ended.

        Raises:
            ImageCutShort: the file has become shorter.
        """
        with self._lock:
            return next(self._pieces, b"")

    def close(self) -> None:
        """Close the file, when a `read` that is under way has ended."""
        with self._lock:
            self._file.close()


def _joined(members: Iterator[bytes | bytearray]) -> Iterator[bytes | bytearray]:
    """Yield the members, small ones together."""
    waiting: list[bytes | bytearray] = []
    length = 0
    for member in members:
        waiting.append(member)
        length += len(member)
        if length >= _DATA_BYTES:
            yield member if len(waiting) == 1 else b"".join(waiting)
            waiting, length = [], 0
    if waiting:
        yield b"".join(waiting)


def _members(file: int, size: int) -> Iterator[bytes | bytearray]:
    at = 0
    while at < size:
        data = _seek(file, at, os.SEEK_DATA, size)
        whole, rest = divmod(data - at, ZEROS_BYTES)
        for _ in range(whole):
            yield _zeros(ZEROS_BYTES)
        if rest:
            yield _zeros(rest)
        at = data
        if data < size:
            at = _seek(file, data, os.SEEK_HOLE, size)
            for start in range(data, at, _DATA_BYTES):
                yield _stored(file, start, min(_DATA_BYTES, at - start))


def _seek(file: int, at: int, whence: int, size: int) -> int:
    """Return where the next data or the next hole begins, `size` if nowhere."""
    try:
        return min(os.lseek(file, at, whence), size)
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # nothing but a hole from here; or the file ends before
            raise
    if os.fstat(file).st_size < size:
        raise ImageCutShort
    return size


def _stored(file: int, at: int, count: int) -> bytearray:
    """Return a member that holds `count` bytes of the file from `at`, in stored blocks."""
    blocks = -(-count // _BLOCK_BYTES)
    member = bytearray(len(_HEADER) + blocks * _BLOCK.size + count + _TRAILER.size)
    member[: len(_HEADER)] = _HEADER
    view = memoryview(member)
    places = []
    end = len(_HEADER)
    for left in range(count, 0, -_BLOCK_BYTES):
        length = min(left, _BLOCK_BYTES)
        _BLOCK.pack_into(member, end, left == length, length, length ^ 0xFFFF)
        end += _BLOCK.size + length
        places.append(view[end - length : end])
    if os.preadv(file, places, at) != count:
        raise ImageCutShort
    checksum = 0
    for place in places:
        checksum = isal_zlib.crc32(place, checksum)
    _TRAILER.pack_into(member, end, checksum, count)
    return member


@functools.lru_cache(maxsize=512)  # a few KiB each; the lengths of holes are multiples of 4 KiB
def _zeros(count: int) -> bytes:
    """Return a member that inflates to so many zeros, at least one.

    Its one block has dynamic codes (RFC 1951, section 3.2.7), in which 258 zeros are one byte. zlib's own has
    them in two bits, but each a copy from one byte before; from 256 bytes before, Go's inflater, with which
    Harvester reads, copies a third faster.
    """
    near, far, literal, end = "00", "01" + "111111", "10", "11"
    # Codes of literals and lengths: 285 (258 bytes) 0, literal 0 10, end of the block 11. Of distances: 0
    # (one byte) 0, 15 (193 bytes and what six bits say) 1. So the lengths of the codes are, where not 0:
    lengths = {0: 2, 256: 2, 285: 1}, {0: 1, 15: 1}
    codes_of_lengths = {18: "0", 1: "10", 2: "11"}  # 18: eleven zeros, and as many more as seven bits say
    order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1]
    bits = ["1", _number(2, 2)]  # the last block, with dynamic codes
    bits += [_number(286 - 257, 5), _number(16 - 1, 5), _number(len(order) - 4, 4)]
    bits += [_number(len(codes_of_lengths.get(symbol, "")), 3) for symbol in order]
    for table in lengths:
        following = 0
        for symbol, length in table.items():
            zeros = symbol - following
            while zeros > 0:
                run = min(zeros, 138)
                bits += [codes_of_lengths[18], _number(run - 11, 7)]
                zeros -= run
            bits.append(codes_of_lengths[length])
            following = symbol + 1
    matches, literals = divmod(count - 1, 258)
    bits.append(literal)
    if matches:
        bits += [near, far * (matches - 1)]
    bits += [literal * literals, end]
    stream = "".join(bits)
    block = int(stream[::-1], 2).to_bytes(-(-len(stream) // 8), "little")
    return _HEADER + block + _TRAILER.pack(zlib.crc32(bytes(count)), count)


def _number(value: int, bits: int) -> str:
    """Return a number as bits in the order of the stream: the lowest first (RFC 1951, section 3.1.1)."""
    return f"{value:0{bits}b}"[::-1]
