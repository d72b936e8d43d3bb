"""Inflating grains in parallel and writing them to the sink."""

from __future__ import annotations

import os
import queue
import threading
import zlib as _zlib
from typing import TYPE_CHECKING, Self

from converters.errors import CorruptImage
from converters.heap import keep_freed_memory
from converters.sink import SECTOR_BYTES, Buffer, Sink

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

# ISA-L takes half of what zlib takes, and less than zlib-ng (`make bench ONLY=inflate`). Its wheels exist for
# the platforms we ship; zlib serves any other.
_deflate: ModuleType
try:
    from isal import isal_zlib
except ImportError:
    _deflate = _zlib
else:
    _deflate = isal_zlib

MAX_WORKERS = 4  # beyond, Python's own work per grain is the limit
# A batch costs one hand-over between threads, and its adjacent grains are written in one call: in runs of
# 1 MiB the kernel's work per byte is half of that in grains.
BATCH_GRAIN_BYTES = 1024 * 1024  # inflated
BATCH_STREAM_BYTES = 1024 * 1024  # of the stream, which a queued batch keeps in memory
QUEUED_BATCHES = 4


def inflate(data: Buffer, grain_bytes: int, needed: int) -> Buffer:
    """Return what a grain's RFC 1950 stream holds: at most `grain_bytes`; no more is ever inflated.

    Raises:
        CorruptImage: the stream is damaged, cut, longer than a grain, shorter than `needed`, or followed by
            something.
    """
    inflater = _deflate.decompressobj()
    try:
        grain: bytes = inflater.decompress(data, grain_bytes + 1)
    except (_zlib.error, _deflate.error) as exc:
        raise CorruptImage(f"its compressed data is damaged: {exc}") from exc
    if len(grain) > grain_bytes:
        raise CorruptImage(f"it inflates to more than the {grain_bytes} bytes of a grain")
    if not inflater.eof:
        raise CorruptImage("its compressed data ends too early")
    if inflater.unused_data.strip(b"\0"):
        raise CorruptImage("its compressed data is followed by something else")
    if len(grain) < needed:
        raise CorruptImage(f"it inflates to {len(grain)} bytes instead of {needed}")
    return grain


def plain(data: Buffer, grain_bytes: int, needed: int) -> Buffer:
    """Return what a grain that is not compressed holds; raises as `inflate` does."""
    if not needed <= len(data) <= grain_bytes:
        raise CorruptImage(f"it has {len(data)} bytes instead of {grain_bytes}")
    return data


class GrainPool:
    """Threads that inflate grains and write them; the order of grains is not kept.

    Holds a bounded number of grains: `put` waits while the threads are behind. The first error ends the work:
    what is queued is dropped, and the next `put`, or `finish`, raises that error. Leaving the context joins
    the threads.
    """

    def __init__(self, sink: Sink, grain_bytes: int, *, compressed: bool) -> None:
        self._sink = sink
        self._grain_bytes = grain_bytes
        self._unpack = inflate if compressed else plain
        self._batch_grains = max(1, BATCH_GRAIN_BYTES // grain_bytes)
        self._batch: list[tuple[int, Buffer]] = []
        self._batch_start = 0
        self._queue: queue.Queue[list[tuple[int, Buffer]] | None] = queue.Queue(QUEUED_BATCHES)
        self._error: Exception | None = None
        self._abandoned = False
        count = min(MAX_WORKERS, len(os.sched_getaffinity(0)))
        self._threads = [
            threading.Thread(target=self._work, name=f"inflate-{n}", daemon=True) for n in range(count)
        ]

    def __enter__(self) -> Self:
        keep_freed_memory()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._abandoned = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def put(self, lba: int, data: Buffer, position: int) -> bool:
        """Take the compressed grain that begins at sector `lba`; return whether a batch was handed over.

        Args:
            lba: The sector of the disk.
            data: What is compressed; stays valid.
            position: How far the stream is read: a batch ends when it keeps too much of it in memory.
        """
        if not self._batch:
            self._batch_start = position
        self._batch.append((lba, data))
        if len(self._batch) < self._batch_grains and position - self._batch_start < BATCH_STREAM_BYTES:
            return False
        self._hand_over()
        return True

    def finish(self) -> None:
        """Wait until every grain is written."""
        self._hand_over()
        self._queue.join()
        self._raise_error()

    def _hand_over(self) -> None:
        self._raise_error()
        self._queue.put(self._batch)
        self._batch = []

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                self._write(batch)
            except Exception as exc:  # noqa: BLE001  # raised again in the thread that waits for the result
                self._error = exc
            finally:
                self._queue.task_done()

    def _write(self, batch: list[tuple[int, Buffer]]) -> None:
        """Inflate a batch and write each run of adjacent grains."""
        start = end = 0
        run: list[Buffer] = []
        for lba, data in batch:
            if self._abandoned or self._error is not None:
                return
            offset = lba * SECTOR_BYTES
            if offset != end or not run:
                if run:
                    self._sink.pwritev(start, run)
                start, run = offset, []
            grain = self._inflate(lba, data)
            run.append(grain)
            end = offset + len(grain)
        if run:
            self._sink.pwritev(start, run)

    def _inflate(self, lba: int, data: Buffer) -> Buffer:
        needed = min(self._grain_bytes, self._sink.size_bytes - lba * SECTOR_BYTES)
        try:
            grain = self._unpack(data, self._grain_bytes, needed)
        except CorruptImage as exc:
            raise CorruptImage(f"the grain of sector {lba} is wrong: {exc}") from exc
        # The last grain may reach beyond the disk.
        return grain if len(grain) == needed else memoryview(grain)[:needed]
