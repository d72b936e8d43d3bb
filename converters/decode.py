"""The one way in: a stream of some format becomes a raw image, in flight where the format allows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from converters import qemu_img, vmdk
from converters.errors import CorruptImage, SizeMismatch, TruncatedImage, UnsupportedFormat, scratch_errors
from converters.fileio import pwritev_all
from converters.formats import HEAD_BYTES, DiskFormat, begins_like
from converters.raw import copy_raw
from converters.sink import Buffer, Progress, Sink
from converters.stream import ChunkReader

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable


def decode(
    image_format: str,
    chunks: Iterable[Buffer],
    sink: Sink,
    *,
    expected_size: int,
    on_progress: Progress,
    stop: threading.Event,
    length: int | None = None,
) -> None:
    """Read a disk image to the end of its stream and write its content to the sink.

    streamOptimized VMDK and raw are decoded as they arrive and are never stored. Any other format needs
    random access: it is stored beside the sink, converted by `qemu-img`, and removed.

    Args:
        image_format: As the source declares it, a word of `DiskFormat`; it is not guessed from the content.
        chunks: The bytes; what this iterator raises passes through.
        sink: A new image; finished by the caller.
        expected_size: Virtual size in bytes that the source announced.
        on_progress: See `converters.sink.Progress`.
        stop: Ends the work within a fraction of a second after the current chunk.
        length: Number of bytes to come, when the source tells; for progress only.

    Raises:
        UnsupportedFormat: nobody here can read it.
        ConversionError: any other, see `converters.errors`.
    """
    try:
        declared = DiskFormat(image_format)
    except ValueError as exc:
        raise UnsupportedFormat(f"disks in format {image_format!r} cannot be converted") from exc
    if sink.size_bytes != expected_size:
        raise SizeMismatch(f"the image was made for {sink.size_bytes} bytes, expected {expected_size}")
    if declared is DiskFormat.RAW:
        copy_raw(chunks, sink, expected_size=expected_size, on_progress=on_progress, stop=stop)
        return
    reader = ChunkReader(chunks, stop)
    if declared is DiskFormat.BLANK:
        if not reader.at_end():
            raise CorruptImage("the disk was declared as blank, and there are bytes of it")
        on_progress(expected_size)
        return
    head = reader.read_up_to(HEAD_BYTES)
    if not begins_like(head, declared):
        raise UnsupportedFormat(f"the disk was declared as {declared} and does not begin like one")
    if len(head) < HEAD_BYTES:
        raise TruncatedImage(f"the stream ended after {len(head)} bytes, inside the image's header")
    if declared is DiskFormat.VMDK:
        header = vmdk.parse_header(head)
        if header.is_stream:
            vmdk.decode_stream(header, reader, sink, on_progress)
            return
    _store_and_convert(declared, head, reader, sink, _Halves(on_progress, sink.size_bytes, length), stop)


class _Halves:
    """Progress of an image that is stored first: that is one half of the way, its conversion the other.

    Where the length of the stream is not known, storing is not told.
    """

    def __init__(self, on_progress: Progress, size_bytes: int, length: int | None) -> None:
        self._on_progress = on_progress
        self._size_bytes = size_bytes
        self._length = length
        self._half = size_bytes // 2 if length else 0

    def stored(self, count: int) -> None:
        """Tell how many bytes of the stream are stored."""
        if self._length:
            self._on_progress(self._half * min(count, self._length) // self._length)

    def converted(self, count: int) -> None:
        """Tell how many bytes of the virtual disk are converted."""
        rest = self._size_bytes - self._half
        self._on_progress(self._half + rest * count // self._size_bytes if self._size_bytes else 0)


def _store_and_convert(
    declared: DiskFormat,
    head: bytes,
    reader: ChunkReader,
    sink: Sink,
    progress: _Halves,
    stop: threading.Event,
) -> None:
    stored = sink.path.with_name(f"{sink.path.name}.source")
    try:
        with scratch_errors(f"{stored.name} cannot be written"):
            fd = os.open(stored, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                pwritev_all(fd, [head], 0)
                offset = len(head)
                for piece in reader.rest():
                    pwritev_all(fd, [piece], offset)
                    offset += len(piece)
                    progress.stored(offset)
            finally:
                os.close(fd)
        qemu_img.convert(
            stored,
            declared,
            sink.path,
            size_bytes=sink.size_bytes,
            on_progress=progress.converted,
            stop=stop,
        )
        sink.adopt(stop)
    finally:
        stored.unlink(missing_ok=True)
