"""What a sparse image knows of each of its 64 KiB blocks, in bounded memory, whatever their order.

Bookkeeping only: nothing here touches the image. Not thread-safe; `converters.raw` holds the lock.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from enum import IntEnum
from typing import IO, TYPE_CHECKING

from converters.digest import ALGORITHM, BLOCK_BYTES, encode_offset
from converters.errors import scratch_errors
from converters.fileio import pread_exactly, pwritev_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PAGE_BLOCKS = 2048  # 128 MiB of disk
SLOT_BYTES = 32  # a SHA-256, or the mask of a partial block
_OFFSET_BYTES = 8
_ENTRY_BYTES = _OFFSET_BYTES + SLOT_BYTES  # laid out as the digest takes it in
_PAGE_BYTES = PAGE_BLOCKS * (1 + _ENTRY_BYTES)
MAX_PAGES = 64  # x 82 KiB = 5.1 MiB of memory; a window of 8 GiB of disk that needs no file


class BlockState(IntEnum):
    """What is known of one block."""

    UNTOUCHED = 0
    DATA = 1  # written as a whole, the slot holds its SHA-256
    ZERO = 2  # claimed as a whole, and all zero unless `DATA` follows
    PARTIAL = 3  # some of its sectors are written, the slot holds their mask


_ALL_ZERO = bytes([BlockState.ZERO]) * PAGE_BLOCKS
# Maps states to 1 (data) and 0 (anything else), to find runs at the speed of memchr.
_IS_DATA = bytes(int(state == BlockState.DATA) for state in range(256))


class _Page:
    """States and slots of `PAGE_BLOCKS` blocks; the slots come into being with the first one set."""

    __slots__ = ("entries", "states")

    def __init__(self, states: bytearray, entries: bytearray | None = None) -> None:
        self.states = states
        self.entries = entries


class BlockTable:
    """State and slot of every block. Pages that were not used for long go to an unnamed file.

    Memory is at most `MAX_PAGES` pages; the file, which the kernel drops with the process, takes at most
    0.07 % of the data. Pages of nothing but zeros take neither.

    Args:
        spill_dir: Where the unnamed file is made, if it is needed: the image's own directory.
    """

    def __init__(self, spill_dir: Path) -> None:
        self._spill_dir = spill_dir
        self._pages: OrderedDict[int, _Page] = OrderedDict()
        self._zero_pages: set[int] = set()
        self._spilled: set[int] = set()
        self._file: IO[bytes] | None = None

    def state(self, block: int) -> BlockState:
        """Return the state of a block."""
        index, at = divmod(block, PAGE_BLOCKS)
        return BlockState(self._page(index).states[at])

    def slot(self, block: int) -> bytes:
        """Return the slot of a block that is `DATA` or `PARTIAL`."""
        index, at = divmod(block, PAGE_BLOCKS)
        entries = self._page(index).entries
        start = at * _ENTRY_BYTES + _OFFSET_BYTES
        return b"" if entries is None else bytes(entries[start : start + SLOT_BYTES])

    def claim(self, first: int, count: int) -> int | None:
        """Make blocks that are all `UNTOUCHED` `ZERO`; else change nothing and return one that is not."""
        spans = list(_spans(first, count))
        for index, at, length in spans:
            states = self._page(index).states
            if states.count(BlockState.UNTOUCHED, at, at + length) != length:
                taken = next(place for place in range(at, at + length) if states[place])
                return index * PAGE_BLOCKS + taken
        for index, at, length in spans:
            self._page(index).states[at : at + length] = _ALL_ZERO[:length]
        return None

    def put_data(self, first: int, slots: Sequence[bytes]) -> None:
        """Make consecutive blocks `DATA` with these SHA-256."""
        for block, slot in enumerate(slots, first):
            self._put(block, BlockState.DATA, slot)

    def put_zero(self, block: int) -> None:
        """Make a block `ZERO`."""
        self._put(block, BlockState.ZERO)

    def put_partial(self, block: int, mask: bytes) -> None:
        """Make a block `PARTIAL` with this mask, of `SLOT_BYTES`."""
        self._put(block, BlockState.PARTIAL, mask)

    def partial_blocks(self) -> Iterator[int]:
        """Yield the blocks that are `PARTIAL`, ascending; setting the one just yielded is allowed."""
        for index in self._known_pages():
            at = -1
            while (at := self._page(index).states.find(BlockState.PARTIAL, at + 1)) >= 0:
                yield index * PAGE_BLOCKS + at

    def digest(self, size_bytes: int) -> str:
        """Return the digest of an image of that size whose data blocks are those marked `DATA`."""
        image = hashlib.sha256()
        for index in self._known_pages():
            page = self._page(index)
            if page.entries is None:
                continue
            is_data = page.states.translate(_IS_DATA)
            with memoryview(page.entries) as entries:
                start = is_data.find(1)
                while start >= 0:
                    end = is_data.find(0, start)
                    end = PAGE_BLOCKS if end < 0 else end
                    image.update(entries[start * _ENTRY_BYTES : end * _ENTRY_BYTES])
                    start = is_data.find(1, end)
        image.update(encode_offset(size_bytes))
        return f"{ALGORITHM}:{image.hexdigest()}"

    def close(self) -> None:
        """Let go of the unnamed file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, block: int, state: BlockState, slot: bytes = b"") -> None:
        index, at = divmod(block, PAGE_BLOCKS)
        page = self._page(index)
        page.states[at] = state
        if slot:
            if page.entries is None:
                page.entries = bytearray(PAGE_BLOCKS * _ENTRY_BYTES)
            start = at * _ENTRY_BYTES
            page.entries[start : start + _ENTRY_BYTES] = encode_offset(block * BLOCK_BYTES) + slot

    def _known_pages(self) -> list[int]:
        return sorted(self._pages.keys() | self._spilled)  # pages of zeros have nothing to tell

    def _page(self, index: int) -> _Page:
        page = self._pages.get(index)
        if page is None:
            page = self._pages[index] = self._load(index)
            if len(self._pages) > MAX_PAGES:
                self._evict(*self._pages.popitem(last=False))
        else:
            self._pages.move_to_end(index)
        return page

    def _load(self, index: int) -> _Page:
        if index in self._zero_pages:
            self._zero_pages.discard(index)
            return _Page(bytearray(_ALL_ZERO))
        if index not in self._spilled or self._file is None:
            return _Page(bytearray(PAGE_BLOCKS))
        with scratch_errors("the table of blocks cannot be read"):
            raw = pread_exactly(self._file.fileno(), _PAGE_BYTES, index * _PAGE_BYTES)
        self._spilled.discard(index)
        return _Page(bytearray(raw[:PAGE_BLOCKS]), bytearray(raw[PAGE_BLOCKS:]))

    def _evict(self, index: int, page: _Page) -> None:
        if page.states == _ALL_ZERO:
            self._zero_pages.add(index)
        elif any(page.states):
            with scratch_errors("the table of blocks cannot be written"):
                if self._file is None:
                    self._file = tempfile.TemporaryFile(dir=self._spill_dir)  # noqa: SIM115  # closed in close
                entries = page.entries or bytes(PAGE_BLOCKS * _ENTRY_BYTES)
                pwritev_all(self._file.fileno(), [page.states, entries], index * _PAGE_BYTES)
            self._spilled.add(index)


def _spans(first: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Split a range of blocks by pages: index of the page, first place in it, number of places."""
    while count:
        index, at = divmod(first, PAGE_BLOCKS)
        length = min(count, PAGE_BLOCKS - at)
        yield index, at, length
        first += length
        count -= length
