"""The bytes of stored files: by ranges with resumption, by a plain request, or out of a passing archive."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from providers.errors import ArchiveInvalid, SourceChanged, TransferInterrupted, Unreachable
from providers.ova import manifest, sources, tar
from providers.ova.sources import StreamSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from providers.ova.handle import Part
    from providers.ova.tar import Member
    from providers.ova.web import Answer, Version, Web

RESUMES = 5  # cuts without a byte in between after which the pool's back-off takes over
RESUME_PAUSE = 1.0  # seconds, longer each time


class Reader(Protocol):
    """Yields the files that a disk is made of, in their order."""

    def read(self, part: Part) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a file, once, in order."""
        ...

    def digests(self) -> Mapping[str, manifest.Digest] | None:
        """Return the manifest if it comes behind the files and was not known; `None`: there is none."""
        ...

    def close(self) -> None:
        """End whatever is open, from any thread; idempotent."""
        ...


class RangedReader:
    """Asks for each file by its range, and goes on where a connection was cut."""

    def __init__(self, web: Web, *, beside: bool) -> None:
        self._web = web
        self._beside = beside
        self._stop = threading.Event()
        self._answer: Answer | None = None

    def read(self, part: Part) -> Iterator[bytes]:
        """Yield the bytes; see `Reader`.

        Raises:
            TransferInterrupted: cut again and again, or closed.
            SourceChanged: the file is another one than it was.
            ProviderError: as `Web.get` raises.
        """
        length = part.length or 0
        at = cuts = 0
        while at < length:
            try:
                for chunk in self._complete(part, at):
                    at += len(chunk)
                    cuts = 0
                    yield chunk
            except (TransferInterrupted, Unreachable):
                cuts += 1
                if cuts > RESUMES or self._stop.wait(RESUME_PAUSE * (cuts - 1)):
                    raise

    def digests(self) -> None:
        """Return nothing: who can jump has looked before."""

    def close(self) -> None:
        """End it; see `Reader`."""
        self._stop.set()
        answer = self._answer
        if answer is not None:
            answer.close()

    def _complete(self, part: Part, at: int) -> Iterator[bytes]:
        """Yield all bytes from `at` on; an answer that ends before is as good as cut."""
        length = part.length or 0
        with closing(self._ask(part, at)) as answer:
            for chunk in answer.chunks():
                at += len(chunk)
                yield chunk
        if at != length:
            raise TransferInterrupted(f"{part.name}: the server sent {at} of {length} bytes")

    def _ask(self, part: Part, at: int) -> Answer:
        if self._stop.is_set():
            raise TransferInterrupted(f"{part.name}: closed by the reader")
        location = self._web.origin.beside(part.name) if self._beside else self._web.origin
        first = (part.offset or 0) + at
        last = (part.offset or 0) + (part.length or 0) - 1
        answer = self._answer = sources.ask_for(self._web, location, part.version, first, last, patient=True)
        if self._stop.is_set():
            answer.close()
        return answer


class PlainReader:
    """Asks for each file beside the descriptor whole: for servers without ranges."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._stop = threading.Event()
        self._answer: Answer | None = None

    def read(self, part: Part) -> Iterator[bytes]:
        """Yield the bytes; see `Reader`."""
        location = self._web.origin.beside(part.name)
        answer = self._answer = self._web.get(location, patient=True)
        if self._stop.is_set():
            answer.close()
        if answer.version.differs(part.version):
            raise SourceChanged(f"{location}: the file has changed since the VM was looked at")
        with closing(answer):
            yield from answer.chunks()

    def digests(self) -> None:
        """Return nothing: the manifest lies beside the files and was seen."""

    def close(self) -> None:
        """End it; see `Reader`."""
        self._stop.set()
        if self._answer is not None:
            self._answer.close()


class Passage:
    """One download of an archive that cannot be jumped in; files are found as they pass.

    Used by one reader at a time; `close` may come from any thread.
    """

    def __init__(self, web: Web, version: Version) -> None:
        self._answer = web.get(web.origin, patient=True)
        if self._answer.version.differs(version):
            self._answer.close()
            raise SourceChanged(f"{web.origin}: the file has changed since the VM was looked at")
        self._source = StreamSource(self._answer)
        self._members = tar.members(self._source)
        self.fresh = True

    def find(self, name: str) -> Member | None:
        """Go forward to a file; `None` when none of that name comes any more."""
        self.fresh = False
        return next((member for member in self._members if member.name == name), None)

    def read(self, member: Member) -> Iterator[memoryview]:
        """Yield the bytes of the file that was just found."""
        return sources.pieces(self._source, member.size)

    def rest(self) -> Mapping[str, manifest.Digest] | None:
        """Go forward to a manifest and return it; `None` when none comes any more."""
        for member in self._members:
            if member.name.lower().endswith(".mf"):
                if member.size > manifest.MAX_BYTES:
                    raise ArchiveInvalid(f"the manifest {member.name} has {member.size} bytes")
                return manifest.parse(self._source.read(member.size))
        return None

    def close(self) -> None:
        """End the download. Idempotent."""
        self._answer.close()


class PassingReader:
    """Reads files out of a passage, and begins a new one for a file that has passed already.

    Args:
        web: The server.
        passage: One that was left by the reader before, if any.

    Attributes:
        cut: Whether it ended because the connection did, and not because it was closed.
    """

    def __init__(self, web: Web, passage: Passage | None) -> None:
        self.cut = False
        self._web = web
        self._stop = threading.Event()
        self._passage = passage
        self._finished = False

    def read(self, part: Part) -> Iterator[memoryview]:
        """Yield the bytes; see `Reader`.

        Raises:
            ArchiveInvalid: the archive has no such file.
        """
        self._finished = False
        try:
            member = self._find(part)
            if self._passage is not None:
                yield from self._passage.read(member)
        except TransferInterrupted:
            self.cut = not self._stop.is_set()
            raise
        self._finished = True

    def digests(self) -> Mapping[str, manifest.Digest] | None:
        """Read on to the manifest; see `Reader`."""
        self._finished = False
        return self._passage.rest() if self._passage is not None else None

    def take_passage(self) -> Passage | None:
        """Give away the passage if another reader can go on with it; `close` ends it no more then."""
        passage, self._passage = (self._passage, None) if self._finished else (None, self._passage)
        return passage

    def close(self) -> None:
        """End it; see `Reader`."""
        self._stop.set()
        passage = self._passage
        if passage is not None:
            passage.close()

    def _find(self, part: Part) -> Member:
        while True:
            passage = self._passage
            fresh = passage is None or passage.fresh
            if passage is None:
                passage = self._passage = Passage(self._web, part.version)
                if self._stop.is_set():
                    passage.close()
            member = passage.find(part.name)
            if member is not None:
                return member
            if fresh:
                raise ArchiveInvalid(f"the archive holds no file {part.name!r}")
            passage.close()
            self._passage = None
