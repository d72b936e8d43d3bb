"""One disk of a package as a stream of bytes, each of its files verified as it passes."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Protocol

from providers.ova.inflate import inflate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from providers.ova.handle import Handle, Part
    from providers.ova.manifest import Digest
    from providers.ova.reading import Reader

# A disk in a format with tables needs little more than its own size: qcow2 0.02 %, grain tables 0.8 %. What a
# file beyond that inflates to is refused, before it fills the scratch volume.
SPARE_BYTES = 64 * 1024 * 1024
SPARE_DIVISOR = 16
_ALGORITHMS = ("sha1", "sha256", "sha512")  # computed together while nobody knows which one will be wanted


class Verifier(Protocol):
    """Decides what a wrong digest means."""

    def __call__(self, part: Part, expected: Digest, found: str) -> None:
        """Raise if `found` is not the expected digest."""
        ...


class PackageDiskStream:
    """A disk's image as it comes; see `providers.base.DiskStream`.

    The manifest speaks of stored files, and a disk may be several, or be compressed. So the digests are
    checked here, file by file, and `checksum` stays empty.

    Args:
        handle: Where the bytes are.
        size_bytes: Virtual size of the disk.
        reader: Brings them.
        verify: Called with each file's digest.
        on_close: Called once, when the stream has ended.
    """

    checksum: tuple[str, str] | None = None

    def __init__(
        self, handle: Handle, size_bytes: int, reader: Reader, verify: Verifier, on_close: Callable[[], None]
    ) -> None:
        self._handle = handle
        self._limit = size_bytes + size_bytes // SPARE_DIVISOR + SPARE_BYTES
        self._reader = reader
        self._verify = verify
        self._on_close = on_close
        self._closed = threading.Event()
        self.format = handle.format
        lengths = [part.length for part in handle.parts]
        known = not handle.gzip and all(length is not None for length in lengths)
        self.length = sum(length or 0 for length in lengths) if known else None

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes as they arrive.

        Raises:
            TransferInterrupted: cut, stalled, or closed.
            DigestMismatch, SourceCorrupt: other bytes came than the manifest says.
            SourceChanged: the file is another one than when the VM was described.
            ArchiveInvalid: the package is damaged.
        """
        if not self._handle.gzip:
            return self._files()
        name = self._handle.parts[0].name
        return inflate(self._files(), self._limit, name)

    def report(self, fraction: float) -> None:
        """Do nothing: no web server wants to know."""

    def close(self) -> None:
        """End the stream; idempotent."""
        if not self._closed.is_set():
            self._closed.set()
            self._on_close()
        self._reader.close()

    def _files(self) -> Iterator[bytes | memoryview]:
        found: dict[str, dict[str, str]] = {}
        for part in self._handle.parts:
            wanted = (part.digest[0],) if part.digest else _ALGORITHMS if self._handle.digests_follow else ()
            hashes = [hashlib.new(name, usedforsecurity=False) for name in wanted]
            for chunk in self._reader.read(part):
                for each in hashes:
                    each.update(chunk)
                yield chunk
            found[part.name] = {each.name: each.hexdigest() for each in hashes}
            if part.digest:
                self._verify(part, part.digest, found[part.name][part.digest[0]])
        if self._handle.digests_follow:
            self._verify_late(found, self._reader.digests() or {})

    def _verify_late(self, found: Mapping[str, Mapping[str, str]], digests: Mapping[str, Digest]) -> None:
        for part in self._handle.parts:
            expected = digests.get(part.name) or digests.get(part.name.rpartition("/")[2])
            if expected and expected[0] in found[part.name]:
                self._verify(part, expected, found[part.name][expected[0]])
