"""The digest of a raw image, `sparse-sha256-64k`, and the command that computes it for any file.

SHA-256 over, in order of offset, the 8-byte big-endian offset and the SHA-256 of every 64 KiB block that is
not all zero, followed by the 8-byte big-endian image size. The last block may be short. Two files have the
same digest exactly when they have the same bytes, however their holes are laid out, and it costs the data to
compute, not the holes.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import sys
from typing import TYPE_CHECKING

from converters.errors import Cancelled, ConversionError, from_os_error
from converters.fileio import pread_exactly

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

ALGORITHM = "sparse-sha256-64k"
BLOCK_BYTES = 64 * 1024
# A bytearray, since it compares with any buffer by memcmp; a memoryview compares item by item.
_ZEROS = bytearray(BLOCK_BYTES)


def is_zero(block: bytes | bytearray | memoryview) -> bool:
    """Tell whether a block of at most `BLOCK_BYTES` has no byte but zero."""
    length = len(block)
    return (_ZEROS if length == BLOCK_BYTES else bytearray(length)) == block


def encode_offset(offset: int) -> bytes:
    """Return an offset or a size as the digest takes it in: 8 bytes, big-endian."""
    return offset.to_bytes(8, "big")


def sparse_sha256(path: str | os.PathLike[str]) -> str:
    """Return `sparse-sha256-64k:<hex>` of a raw file or block device; holes are not read.

    Raises:
        ConversionError: the file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return sparse_sha256_of(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise from_os_error(exc, f"{path} cannot be read") from exc


def sparse_sha256_of(fd: int, stop: threading.Event | None = None) -> str:
    """Return `sparse-sha256-64k:<hex>` of what an open file holds; moves its file position.

    Raises:
        Cancelled: `stop` was set.
    """
    size = os.lseek(fd, 0, os.SEEK_END)
    image = hashlib.sha256()
    for offset in _data_blocks(fd, size):
        if stop is not None and stop.is_set():
            raise Cancelled("stopped")
        block = pread_exactly(fd, min(BLOCK_BYTES, size - offset), offset)
        if not is_zero(block):
            image.update(encode_offset(offset) + hashlib.sha256(block).digest())
    image.update(encode_offset(size))
    return f"{ALGORITHM}:{image.hexdigest()}"


def _data_blocks(fd: int, size: int) -> Iterator[int]:
    """Yield the offset of every block that may hold data, ascending, each once."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            if exc.errno != errno.EINVAL:
                raise
            start, end = offset, size  # block devices know no holes
        offset = start - start % BLOCK_BYTES
        while offset < end:
            yield offset
            offset += BLOCK_BYTES


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: print the digest of each file, as `sha256sum` does; 1 when one cannot be read."""
    parser = argparse.ArgumentParser(
        prog="sparse-sha256",
        description="Print the sparse-sha256-64k digest of raw disk images: equal digests, equal bytes.",
    )
    parser.add_argument("file", nargs="+", help="raw image or block device")
    status = 0
    for path in parser.parse_args(argv).file:
        try:
            sys.stdout.write(f"{sparse_sha256(path)}  {path}\n")
        except ConversionError as exc:
            sys.stderr.write(f"sparse-sha256: {exc}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
