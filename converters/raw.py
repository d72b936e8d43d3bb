"""Raw images: the sparse file that every decoder writes, and the copying of a source that is raw already."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Self

from converters.blocktable import SLOT_BYTES, BlockState, BlockTable
from converters.digest import BLOCK_BYTES, is_zero, sparse_sha256_of
from converters.errors import (
    Cancelled,
    CorruptImage,
    ScratchFailed,
    SizeMismatch,
    TruncatedImage,
    UnsupportedFormat,
    scratch_errors,
)
from converters.fileio import pread_exactly, pwritev_all
from converters.formats import HEAD_BYTES, looks_like
from converters.sink import SECTOR_BYTES, Buffer, Progress, Sink
from converters.writeback import Writeback

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

MAX_OPEN_BLOCKS = 128  # x 64 KiB = 8 MiB of blocks that wait for their missing pieces
COPY_BYTES = 1024 * 1024
_ADVICE = {
    "luks": "; it is encrypted as a whole: convert it in the guest (cryptsetup convert --type luks2), or put "
    "what is encrypted into a partition"
}


class SparseRawFile:
    """A new raw image of a fixed size, written once, in any order, by any number of threads.

    All-zero blocks of 64 KiB are not written: they stay holes, whatever pieces they came in. The digest of
    contract and `converters.digest` is computed on the way. Memory is bounded (about 14 MiB) for any size and
    any order; for most orders it stays far below.

    A range outside the image and a range written before are refused with `CorruptImage`: what the source says
    is then no image of that size. After an error of any call the file is good for nothing but `close`.

    Args:
        path: The file, which must not exist. Mode 0600.
        size_bytes: Virtual size.

    Raises:
        DiskFull: there is no room; from every method that writes.
        ScratchFailed: the operating system refuses for another reason; likewise.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        self._table = BlockTable(path.parent)
        self._open_blocks: dict[int, tuple[bytearray, int]] = {}  # block -> bytes, mask of sectors
        self._adopted: str | None = None  # the digest of what another program wrote
        self._failed = False
        with scratch_errors(f"{path.name} cannot be created"):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._writeback = Writeback(self._fd)
            try:
                os.ftruncate(self._fd, size_bytes)
            except OSError:
                self.close()
                raise

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def size_bytes(self) -> int:
        """Virtual size."""
        return self._size_bytes

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write buffers, one behind the other, at `offset`; a run of 1 MiB costs hardly more than a block.

        The range is made of whole sectors of 512 bytes, except at the image's end; the buffers need not be.

        Raises:
            CorruptImage: the range is not inside the image, not whole sectors, or was written before.
            UnsupportedFormat: whoever reads the image next might take it for one of another format: known as
                soon as its first block is, and not only when terabytes have been read.
        """
        end = offset + sum(map(len, buffers))
        if offset < 0 or end > self._size_bytes:
            raise CorruptImage(f"bytes {offset} to {end} lie outside the disk of {self._size_bytes} bytes")
        if offset % SECTOR_BYTES or (end % SECTOR_BYTES and end != self._size_bytes):
            raise CorruptImage(f"bytes {offset} to {end} are no whole sectors")
        try:
            if self._are_blocks(offset, end, buffers):
                self._write_blocks(offset // BLOCK_BYTES, buffers)
            else:
                self._write(offset, end, buffers[0] if len(buffers) == 1 else b"".join(buffers))
        except BaseException:
            self._failed = True
            raise

    def adopt(self, stop: threading.Event) -> None:
        """Take what another program wrote to the file as the image; its digest is then read from the file.

        Raises:
            SizeMismatch: that program left a file of another size.
            UnsupportedFormat: whoever reads the image next might take it for one of another format.
            Cancelled: `stop` was set.
        """
        with scratch_errors(f"{self._path.name} cannot be read"):
            size = os.fstat(self._fd).st_size
            if size != self._size_bytes:
                raise SizeMismatch(f"the converted image has {size} bytes, expected {self._size_bytes}")
            _refuse_disguise(os.pread(self._fd, HEAD_BYTES, 0))
            self._adopted = sparse_sha256_of(self._fd, stop)

    def finish(self) -> str:
        """Make the image durable and return its digest, `sparse-sha256-64k:<hex>`. No write may follow.

        What was never written reads as zeros.

        Raises:
            UnsupportedFormat: whoever reads the image next might take it for one of another format.
        """
        if self._failed:
            raise ScratchFailed(f"{self._path.name} is incomplete: a write failed")
        with scratch_errors(f"{self._path.name} cannot be finished"):
            if self._adopted is not None:
                digest = self._adopted
            else:
                for block, (buffer, _mask) in sorted(self._open_blocks.items()):
                    self._store(block, [buffer])
                self._open_blocks.clear()
                for block in self._table.partial_blocks():
                    self._store(
                        block, [pread_exactly(self._fd, self._block_length(block), block * BLOCK_BYTES)]
                    )
                digest = self._table.digest(self._size_bytes)
            self._writeback.finish()
        return digest

    def close(self) -> None:
        """Close the file, finished or not; does not remove it. Idempotent."""
        self._table.close()
        self._writeback.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _block_length(self, block: int) -> int:
        return min(BLOCK_BYTES, self._size_bytes - block * BLOCK_BYTES)

    def _are_blocks(self, offset: int, end: int, buffers: Sequence[Buffer]) -> bool:
        """Tell whether each buffer is one block: the usual grains."""
        return (
            not offset % BLOCK_BYTES
            and (not end % BLOCK_BYTES or end == self._size_bytes)
            and len(buffers) == -(-(end - offset) // BLOCK_BYTES)
            and all(len(buffer) == BLOCK_BYTES for buffer in buffers[:-1])
        )

    def _write(self, offset: int, end: int, data: Buffer) -> None:
        """Split a range into the whole blocks in its middle and the pieces of blocks at its ends."""
        first_whole = -(-offset // BLOCK_BYTES)
        end_whole = -(-end // BLOCK_BYTES) if end == self._size_bytes else end // BLOCK_BYTES
        with memoryview(data) as view:
            middle = view
            if offset < first_whole * BLOCK_BYTES:
                cut = min(end, first_whole * BLOCK_BYTES) - offset
                self._write_piece(offset, view[:cut])
                middle = view[cut:]
            if first_whole < end_whole:
                length = min(end, end_whole * BLOCK_BYTES) - first_whole * BLOCK_BYTES
                blocks = [middle[at : min(at + BLOCK_BYTES, length)] for at in range(0, length, BLOCK_BYTES)]
                self._write_blocks(first_whole, blocks)
                middle = middle[length:]
            if len(middle):
                self._write_piece(end - len(middle), middle)

    def _write_blocks(self, first: int, blocks: Sequence[Buffer]) -> None:
        with self._lock:
            waiting = (block for block in range(first, first + len(blocks)) if block in self._open_blocks)
            taken = next(waiting, None) if self._open_blocks else None
            if taken is None:
                taken = self._table.claim(first, len(blocks))
            if taken is not None:
                raise CorruptImage(f"the disk's block at byte {taken * BLOCK_BYTES} comes twice")
        self._store(first, blocks)

    def _write_piece(self, offset: int, data: memoryview) -> None:
        """Write less than a block: it is held until the block is complete, or until `finish`."""
        block, inner = divmod(offset, BLOCK_BYTES)
        sectors = -(-len(data) // SECTOR_BYTES)
        mask = ((1 << sectors) - 1) << (inner // SECTOR_BYTES)
        complete = (1 << -(-self._block_length(block) // SECTOR_BYTES)) - 1
        with self._lock:
            buffer, written = self._open_block(block)
            if written & mask:
                raise CorruptImage(f"the disk's bytes from {offset} come twice")
            buffer[inner : inner + len(data)] = data
            if written | mask != complete:
                self._open_blocks[block] = (buffer, written | mask)
                return
            self._open_blocks.pop(block, None)
            self._table.put_zero(block)
        self._store(block, [buffer])

    def _open_block(self, block: int) -> tuple[bytearray, int]:
        """Return bytes and mask of a block that is written in pieces."""
        if block in self._open_blocks:
            return self._open_blocks[block]
        match self._table.state(block):
            case BlockState.UNTOUCHED:
                found = bytearray(self._block_length(block)), 0
            case BlockState.PARTIAL:
                with scratch_errors(f"{self._path.name} cannot be read"):
                    raw = pread_exactly(self._fd, self._block_length(block), block * BLOCK_BYTES)
                found = bytearray(raw), int.from_bytes(self._table.slot(block), "big")
            case _:
                raise CorruptImage(f"the disk's block at byte {block * BLOCK_BYTES} comes twice")
        if len(self._open_blocks) >= MAX_OPEN_BLOCKS:
            self._set_aside(next(iter(self._open_blocks)))
        return found

    def _set_aside(self, block: int) -> None:
        """Write an incomplete block to the file as it is; it is read back when its next piece comes."""
        buffer, mask = self._open_blocks.pop(block)
        with scratch_errors(f"{self._path.name} cannot be written"):
            pwritev_all(self._fd, [buffer], block * BLOCK_BYTES)
            self._writeback.wrote(len(buffer))
        self._table.put_partial(block, mask.to_bytes(SLOT_BYTES, "big"))

    def _store(self, first: int, blocks: Sequence[Buffer]) -> None:
        """Write complete, claimed blocks, unless they are zero, and note their digests."""
        if first == 0:
            _refuse_disguise(bytes(memoryview(blocks[0])[:HEAD_BYTES]))
        run: list[Buffer] = []
        slots: list[bytes] = []
        for block, data in enumerate(blocks, first):
            if is_zero(data):
                self._store_run(block - len(run), run, slots)
                run, slots = [], []
            else:
                run.append(data)
                slots.append(hashlib.sha256(data).digest())
        self._store_run(first + len(blocks) - len(run), run, slots)

    def _store_run(self, first: int, run: Sequence[Buffer], slots: Sequence[bytes]) -> None:
        if not run:
            return
        with scratch_errors(f"{self._path.name} cannot be written"):
            pwritev_all(self._fd, run, first * BLOCK_BYTES)
            self._writeback.wrote(sum(map(len, run)))
        with self._lock:
            self._table.put_data(first, slots)


def _refuse_disguise(head: bytes) -> None:
    disguise = looks_like(head)
    if disguise is not None:
        raise UnsupportedFormat(
            f"the disk's own first bytes are those of a {disguise} image: Harvester would read what "
            f"that header says instead of the disk{_ADVICE.get(disguise, '')}"
        )


def copy_raw(
    chunks: Iterable[Buffer], sink: Sink, *, expected_size: int, on_progress: Progress, stop: threading.Event
) -> None:
    """Copy a raw image that comes in chunks of any size.

    Raises:
        TruncatedImage: fewer bytes came than the image has.
        SizeMismatch: more bytes came.
        Cancelled: `stop` was set.
    """
    buffer = bytearray(COPY_BYTES)
    offset = filled = 0
    with memoryview(buffer) as window:
        for chunk in chunks:
            if stop.is_set():
                raise Cancelled("stopped")
            if offset + filled + len(chunk) > expected_size:
                raise SizeMismatch(f"the raw image has more than the expected {expected_size} bytes")
            with memoryview(chunk) as view:
                taken = 0
                while taken < len(view):
                    step = min(len(view) - taken, COPY_BYTES - filled)
                    window[filled : filled + step] = view[taken : taken + step]
                    taken += step
                    filled += step
                    if filled == COPY_BYTES:
                        sink.pwritev(offset, [window])
                        offset += filled
                        filled = 0
                        on_progress(offset)
        if offset + filled < expected_size:
            raise TruncatedImage(f"the raw image ended after {offset + filled} of {expected_size} bytes")
        if filled:
            sink.pwritev(offset, [window[:filled]])
        on_progress(expected_size)
