"""The product's byte path in a process of its own, as the controller runs it, to be weighed or killed.

`python -m tests.bench.disk_reader SCRATCH SIZE SOURCE...`: reads the disks that the sources (files or URLs of
streamOptimized VMDKs) hold, all at once, through the transfer pool, and prints their digests.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import socket
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from controller.runtime.clock import SystemClock
from controller.scratch import Scratch
from controller.transfers import DiskJob, TransferPool, TransferStatus
from providers.errors import TransferInterrupted
from providers.wire import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

UID = "bench"


class FileStream:
    """A VMDK in a file."""

    format = "vmdk"
    length: int | None = None
    checksum: tuple[str, str] | None = None

    def __init__(self, source: str) -> None:
        self._source = source

    def chunks(self) -> Iterator[bytes]:
        with Path(self._source).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def report(self, fraction: float) -> None:
        del fraction

    def close(self) -> None:
        pass


class HTTPStream(FileStream):
    """A VMDK from a web server, read as the provider for vSphere reads, but for TLS."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        url = urllib.parse.urlsplit(source)
        self._connection = HTTPConnection(url.hostname or "", url.port)
        self._connection.connect()
        self._socket: socket.socket = self._connection.sock
        self._connection.request(
            "GET", f"{url.path}?{url.query}", preload_content=False, decode_content=False
        )

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._connection.getresponse().stream(CHUNK_BYTES, decode_content=False)
        except (HTTPError, OSError) as exc:
            raise TransferInterrupted(str(exc)) from exc

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def open_source(source: str) -> FileStream:
    """Begin to read a file or URL."""
    return HTTPStream(source) if "://" in source else FileStream(source)


def main() -> None:
    """Read the disks and print what the controller would know of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("source", nargs="+")
    arguments = parser.parse_args()
    # The pool's threads log while the digests are printed: two writers on one stream mix their lines.
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    count = len(arguments.source)
    changed = threading.Event()
    pool = TransferPool(
        Scratch(arguments.scratch), SystemClock(), limit=count, on_change=lambda _: changed.set()
    )
    pool.start(
        *(
            DiskJob(UID, index, arguments.size, "bench", count, functools.partial(open_source, source))
            for index, source in enumerate(arguments.source)
        )
    )
    for index in range(count):
        while (state := pool.state(UID, index)) and state.status is not TransferStatus.DONE:
            if state.error or state.needed_bytes:
                raise SystemExit(f"disk {index} was not read: {state}")
            changed.wait()
            changed.clear()
        if state is not None and state.result is not None:
            print(state.result.digest)
    pool.shut_down(10)


if __name__ == "__main__":
    main()
