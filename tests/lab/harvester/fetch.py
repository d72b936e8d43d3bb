"""How Harvester's storage reads an image from a URL: Longhorn's data source, and CDI's importer.

Sources: longhorn/backing-image-manager `pkg/sync/handler.go` and `sync_file.go`; harvester `pkg/image/cdi`.
Both are Go programs, whose client offers gzip on a GET without a range and inflates what comes.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import zlib
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SILENCE_SECONDS = 30  # Longhorn's HTTPTimeout: it gives up after this time without a byte
READ_BYTES = 1 << 20
GZIP_READ_BYTES = 1 << 16  # may inflate to a thousand times as much
BLOCK_BYTES = 1 << 12  # Longhorn looks for zeros in pieces of this size
RANGE_BYTES = 16 << 20
PROBE_BYTES = 128
QCOW2_MAGIC = b"QFI\xfb"
GZIP_WINDOW = 31  # zlib: with a gzip header and trailer
READS_PER_SECOND = 20  # when the rate is limited


class FetchError(Exception):
    """An image could not be read; the message is what Harvester would show."""


class Request(NamedTuple):
    """One request that the destination made; status 0 when there was no answer."""

    method: str
    path: str
    status: int


@dataclass
class Faults:
    """What goes wrong on purpose.

    Attributes:
        bytes_per_second: Upper limit of each download, `None` for none.
        fail_next: So many downloads are cut after their first bytes.
        fail_always: Every download is cut.
    """

    bytes_per_second: int | None = None
    fail_next: int = 0
    fail_always: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def strikes(self) -> bool:
        """Whether the download that asks is to fail; counts down."""
        with self._lock:
            if self.fail_always:
                return True
            if self.fail_next > 0:
                self.fail_next -= 1
                return True
            return False


class Fetcher:
    """Reads one image; `stop` ends it within a second or so.

    Attributes:
        stop: Set by others to give up.
    """

    def __init__(self, url: str, *, faults: Faults, record: Callable[[Request], None]) -> None:
        self._url = url
        self._faults = faults
        self._record = record
        self.stop = threading.Event()

    def length(self) -> int:
        """Ask for the length by HEAD; -1 when the server does not tell.

        Raises:
            FetchError: the answer is not 200.
        """
        with closing(self._open("HEAD", {})) as answer:
            return int(answer.headers.get("Content-Length", -1))

    def known_length(self) -> int:
        """Ask for the length by HEAD.

        Raises:
            FetchError: the answer is not 200, or does not tell.
        """
        if (length := self.length()) < 0:
            raise FetchError("Content-Length is not found in the header")
        return length

    def virtual_size(self) -> int:
        """Look at the first bytes for the header of a qcow2 image; 0 when it is none (as CDI's backend does).

        Raises:
            FetchError: the server refuses, or there are too few bytes.
        """
        with closing(self._open("GET", {"Range": f"bytes=0-{PROBE_BYTES}"})) as answer:
            head = answer.read(PROBE_BYTES + 1)
        if len(head) < PROBE_BYTES:
            raise FetchError(f"content length is less than {PROBE_BYTES} bytes")
        return int.from_bytes(head[24:32], "big") if head.startswith(QCOW2_MAGIC) else 0

    def download(self, target: Path, progress: Callable[[int], None]) -> int:
        """Read all of it by one GET into a sparse file and return its length (Longhorn).

        Raises:
            FetchError: the status is not 200, the bytes end early or stop coming, or are not as many as HEAD
                promised.
        """
        expected = self.length()
        with closing(self._open("GET", {"Accept-Encoding": "gzip"})) as answer, target.open("wb") as output:
            copied = self._copy(_inflated(answer, self._read_bytes()), output, progress)
        if expected > 0 and copied != expected:
            raise FetchError(f"processed data size {copied} does not match the expected file size {expected}")
        return copied

    def download_ranges(self, target: Path, size: int, progress: Callable[[int], None]) -> int:
        """Read `size` bytes by GETs of ranges (CDI's importer, through nbdkit's curl plugin).

        Raises:
            FetchError: a range is refused or incomplete.
        """
        copied = 0
        with target.open("wb") as output:
            while copied < size:
                end = min(copied + RANGE_BYTES, size) - 1
                with closing(self._open("GET", {"Range": f"bytes={copied}-{end}"})) as answer:
                    if answer.status != HTTPStatus.PARTIAL_CONTENT:
                        raise FetchError(f"the server does not support byte ranges ({answer.status})")
                    copied += self._copy(
                        _plain(answer, self._read_bytes()), output, _shifted(progress, copied)
                    )
                if copied != end + 1:
                    raise FetchError(f"range ended at {copied} instead of {end + 1}")
        return copied

    def _open(self, method: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        parts = urlsplit(self._url)
        if parts.hostname is None:
            raise FetchError(f"unsupported protocol scheme {parts.scheme!r}")
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=SILENCE_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SILENCE_SECONDS)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {"User-Agent": "Go-http-client/1.1", "Connection": "close", **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            self._record(Request(method, path, 0))
            connection.close()
            raise FetchError(f"{method.title()} {self._url!r}: {exc}") from exc
        self._record(Request(method, path, answer.status))
        allowed = {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT} if "Range" in headers else {HTTPStatus.OK}
        if answer.status not in allowed:
            answer.close()
            connection.close()
            raise FetchError(
                f"expected status code 200 from {self._url}, got {answer.status} {answer.reason}"
            )
        return answer

    def _copy(self, pieces: Iterator[bytes], output: BinaryIO, progress: Callable[[int], None]) -> int:
        doomed = self._faults.strikes()
        base, copied = output.tell(), 0
        try:
            for piece in pieces:
                for at in range(0, len(piece), BLOCK_BYTES):
                    block = piece[at : at + BLOCK_BYTES]
                    if block.count(0) == len(block):
                        output.seek(len(block), 1)
                    else:
                        output.write(block)
                copied += len(piece)
                progress(copied)
                if doomed:
                    raise FetchError("read: connection reset by peer")
                if self.stop.wait(self._pause(len(piece))):
                    raise FetchError("context cancelled during the copy")
        except (OSError, http.client.HTTPException, zlib.error) as exc:
            raise FetchError(f"unexpected EOF: {exc}") from exc
        output.truncate(base + copied)
        return copied

    def _read_bytes(self) -> int:
        rate = self._faults.bytes_per_second
        return READ_BYTES if rate is None else max(BLOCK_BYTES, min(READ_BYTES, rate // READS_PER_SECOND))

    def _pause(self, count: int) -> float:
        rate = self._faults.bytes_per_second
        return 0 if rate is None else count / rate


def _shifted(progress: Callable[[int], None], by: int) -> Callable[[int], None]:
    return lambda count: progress(by + count)


def _plain(answer: http.client.HTTPResponse, size: int) -> Iterator[bytes]:
    """Yield the body; like Go's client, complain when it is shorter than its Content-Length."""
    while piece := answer.read(size):
        yield piece
    if answer.length:
        raise FetchError(f"unexpected EOF: {answer.length} bytes are missing")


def _inflated(answer: http.client.HTTPResponse, size: int) -> Iterator[bytes]:
    """Yield the body, inflated if it came as gzip (RFC 1952: any number of members)."""
    if answer.headers.get("Content-Encoding", "").lower() != "gzip":
        yield from _plain(answer, size)
        return
    member, within = zlib.decompressobj(GZIP_WINDOW), False
    for piece in _plain(answer, min(size, GZIP_READ_BYTES)):
        rest = piece
        while rest:
            within = True
            if inflated := member.decompress(rest):
                yield inflated
            rest = member.unused_data
            if member.eof:
                member, within = zlib.decompressobj(GZIP_WINDOW), False
    if within:
        raise FetchError("unexpected EOF: the gzip stream ends within a member")
