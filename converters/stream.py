"""Reading a stream of chunks of any size: exact reads for parsers, and checks of the whole as it passes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from converters.errors import Cancelled, ChecksumMismatch, CorruptImage, TruncatedImage, UnsupportedFormat

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator

    from converters.sink import Buffer


class ChunkReader:
    """Exact reads from chunks of any size, holding no more than one chunk and what is asked for.

    Attributes:
        position: Number of bytes read so far.
    """

    def __init__(self, chunks: Iterable[Buffer], stop: threading.Event) -> None:
        self._chunks = iter(chunks)
        self._stop = stop
        self._chunk = memoryview(b"")
        self._at = 0
        self.position = 0

    def read(self, length: int) -> bytes | memoryview:
        """Return the next `length` bytes, which stay valid; a view where they lie in one chunk.

        Raises:
            TruncatedImage: the stream ends before.
            Cancelled: `stop` was set.
        """
        at = self._at
        end = at + length
        if end <= len(self._chunk):
            self._at = end
            self.position += length
            return self._chunk[at:end]
        parts: list[memoryview] = []
        missing = length
        while missing:
            if self.at_end():
                raise TruncatedImage(f"the stream ended after {self.position} bytes, inside its image")
            step = min(missing, len(self._chunk) - self._at)
            parts.append(self._chunk[self._at : self._at + step])
            self._at += step
            self.position += step
            missing -= step
        return b"".join(parts)

    def read_up_to(self, length: int) -> bytes:
        """Return the next `length` bytes, or all that is left when it is less."""
        parts: list[bytes | memoryview] = []
        while length and not self.at_end():
            parts.append(self.read(min(length, len(self._chunk) - self._at)))
            length -= len(parts[-1])
        return b"".join(parts)

    def skip(self, length: int) -> None:
        """Pass over `length` bytes; raises as `read` does."""
        while length:
            if self.at_end():
                raise TruncatedImage(f"the stream ended after {self.position} bytes, inside its image")
            step = min(length, len(self._chunk) - self._at)
            self._at += step
            self.position += step
            length -= step

    def at_end(self) -> bool:
        """Tell whether no byte is left; waits for the next chunk to know."""
        while self._at == len(self._chunk):
            if self._stop.is_set():
                raise Cancelled("stopped")
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            # The source may use a view's memory again; bytes are ours.
            self._chunk = memoryview(chunk if isinstance(chunk, bytes) else bytes(chunk))
            self._at = 0
        return False

    def rest(self) -> Iterator[memoryview]:
        """Yield what is left, in pieces that are valid until the next step."""
        while not self.at_end():
            piece = self._chunk[self._at :]
            self._at = len(self._chunk)
            self.position += len(piece)
            yield piece


def checked(
    chunks: Iterable[Buffer], length: int | None, checksum: tuple[str, str] | None
) -> Iterator[Buffer]:
    """Pass chunks on, and verify them as a whole when they end: so the consumer must read to the end.

    Args:
        chunks: The stream.
        length: Number of bytes that the source announced, if it did.
        checksum: `(algorithm of hashlib, hex digest)` that the source announced, if it did.

    Raises:
        UnsupportedFormat: nobody here knows the algorithm of the checksum; before the first chunk.
        TruncatedImage: fewer bytes came than announced.
        CorruptImage: more bytes came than announced.
        ChecksumMismatch: other bytes came than announced.
    """
    algorithm, announced = checksum or ("", "")
    try:
        digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
    except ValueError as exc:
        raise UnsupportedFormat(f"the source gives a checksum of unknown kind, {algorithm!r}") from exc
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if length is not None and received > length:
            raise CorruptImage(f"the source sent more than the {length} bytes it announced")
        if digest is not None:
            digest.update(chunk)
        yield chunk
    if length is not None and received < length:
        raise TruncatedImage(f"the stream ended after {received} of {length} bytes")
    if digest is not None and digest.hexdigest() != announced.lower():
        raise ChecksumMismatch(
            f"the bytes received do not have the {algorithm} checksum that the source gave"
        )
