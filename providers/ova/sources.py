"""Archives on a server as sources of bytes: by ranges, which jump forward, and in a stream, which cannot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from providers.errors import ArchiveInvalid, SourceChanged, TransferInterrupted, Unreachable
from providers.ova.web import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.ova.location import Location
    from providers.ova.web import Answer, Version, Web

WINDOW_BYTES = 64 * 1024  # holds the descriptor and the manifest of most archives, with their headers
LOOK_SECONDS = 120.0  # for a whole walk through an archive
_LONGEST_READ = 8 * 1024 * 1024


class RangedSource:
    """Reads where it is told to and fetches only that, a window at a time; see `providers.ova.tar.Source`.

    Attributes:
        position: See `providers.ova.tar.Source`.
        size: Bytes of the file.
    """

    def __init__(self, web: Web, location: Location, first: Answer) -> None:
        """Go on from an answer that holds the file's first bytes; it is read and closed."""
        self._web = web
        self._location = location
        self._version: Version = first.version
        self.size = first.version.size or 0
        self.position = 0
        self._window = _body(first, WINDOW_BYTES)
        self._window_at = 0
        self._deadline = time.monotonic() + LOOK_SECONDS

    def peek(self, length: int) -> bytes:
        """Return what `read` would return, without passing over it."""
        length = min(length, max(0, self.size - self.position))
        start = self.position - self._window_at
        if not 0 <= start <= start + length <= len(self._window):
            self._fetch(length)
            start = 0
        return self._window[start : start + length]

    def read(self, length: int) -> bytes:
        """Return the next bytes.

        Raises:
            SourceChanged: the file is another one than at the beginning.
            ProviderError: as `Web.get` raises, and `TransferInterrupted`.
        """
        data = self.peek(length)
        self.position += len(data)
        return data

    def skip(self, length: int) -> None:
        """Pass over bytes; costs nothing."""
        self.position += length

    def _fetch(self, length: int) -> None:
        if length > _LONGEST_READ:
            raise ArchiveInvalid(f"the archive has a part of {length} bytes where a small one belongs")
        if time.monotonic() > self._deadline:
            raise Unreachable(f"{self._location}: the server is too slow to look through the archive")
        last = min(self.size, self.position + max(length, WINDOW_BYTES)) - 1
        answer = ask_for(self._web, self._location, self._version, self.position, last, patient=False)
        self._window = _body(answer, last + 1 - self.position)
        self._window_at = self.position


class StreamSource:
    """Reads one answer from its beginning to its end; see `providers.ova.tar.Source`.

    Attributes:
        position: See `providers.ova.tar.Source`.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._chunks = answer.chunks()
        self._chunk = memoryview(b"")
        self.position = 0

    def peek(self, length: int) -> bytes:
        """Return what `read` would return, without passing over it."""
        data = self.read(length)
        self.position -= len(data)
        self._chunk = memoryview(data + bytes(self._chunk))
        return data

    def read(self, length: int) -> bytes:
        """Return the next bytes; raises `TransferInterrupted`."""
        parts = []
        while length and (piece := self.some(length)):
            parts.append(piece)
            length -= len(piece)
        return b"".join(parts)

    def skip(self, length: int) -> None:
        """Read bytes and drop them; raises as `read`."""
        while length and (piece := self.some(length)):
            length -= len(piece)

    def some(self, limit: int) -> memoryview:
        """Return at least one and at most `limit` bytes; none at the end.

        Raises:
            TransferInterrupted: cut, or the end may be a cut.
        """
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                if not self._answer.end_is_certain:
                    raise TransferInterrupted("the connection ended; nobody knows whether the file did")
                return memoryview(b"")
            self._chunk = memoryview(chunk)
        piece = self._chunk[:limit]
        self._chunk = self._chunk[len(piece) :]
        self.position += len(piece)
        return piece

    def close(self) -> None:
        """End the answer; idempotent, from any thread."""
        self._answer.close()


def ask_for(
    web: Web, location: Location, version: Version, first: int, last: int, *, patient: bool
) -> Answer:
    """Ask for a part of a file that was seen before.

    Raises:
        SourceChanged: the file is another one now.
        ProviderError: as `Web.get` raises.
    """
    answer = web.get(location, first, last, patient=patient)
    if answer.version.differs(version):
        answer.close()
        raise SourceChanged(f"{location}: the file has changed since the VM was looked at")
    if answer.status != PARTIAL or answer.start != first:
        answer.close()
        raise TransferInterrupted(f"{location}: the server does not send the part that it was asked for")
    return answer


def _body(answer: Answer, limit: int) -> bytes:
    """Read a short answer whole and close it."""
    data = bytearray()
    try:
        for chunk in answer.chunks():
            data += chunk
            if len(data) > limit:
                break
    finally:
        answer.close()
    return bytes(data[:limit])


def whole(answer: Answer, limit: int, what: str) -> bytes:
    """Read a small file whole and close the answer.

    Raises:
        ArchiveInvalid: it is larger than `limit`.
        TransferInterrupted: see `Answer.chunks`.
    """
    data = _body(answer, limit + 1)
    if len(data) > limit:
        raise ArchiveInvalid(f"the {what} has more than {limit} bytes")
    return data


def pieces(source: StreamSource, length: int) -> Iterator[memoryview]:
    """Yield the next `length` bytes as they come.

    Raises:
        ArchiveInvalid: the file ends before.
        TransferInterrupted: the connection does.
    """
    while length:
        piece = source.some(length)
        if not piece:
            raise ArchiveInvalid(f"the archive ends inside a member, {length} bytes too early")
        length -= len(piece)
        yield piece
